/** How commands that speak to the proxy themselves get in: by the variables that `escapement serve` reads. */
export const rocketmqAccess = (env: NodeJS.ProcessEnv) => {
  const { ROCKETMQ_TLS: tls, ROCKETMQ_ACCESS_KEY: accessKey, ROCKETMQ_ACCESS_SECRET: accessSecret } = env;
  return {
    ...(tls === "true" ? { tls: {} } : undefined),
    ...(accessKey && accessSecret ? { credentials: { accessKey, accessSecret } } : undefined),
  };
};
