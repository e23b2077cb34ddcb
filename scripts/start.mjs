// `npm start`: installs what is missing, brings up Redis and RocketMQ unless their addresses are given, serves, and
// prints what a newcomer needs. Stopping it (Ctrl-C) stops the server and leaves the services running, so that the
// next start is quick and nothing scheduled is lost; `npm run services -- stop` stops them.

import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { install, nodeBinary, root } from "./install.mjs";
import { startServices } from "./services.mjs";

const demoTopic = "demo";
const demoGroup = "demo-consumer";

const say = (line) => console.error(line);

const environment = async () => {
  const env = { ...process.env };
  const names = [...(env.REDIS_URL ? [] : ["redis"]), ...(env.ROCKETMQ_ENDPOINT ? [] : ["rocketmq"])];
  if (names.length === 0) return env;
  const services = await startServices({ names, say });
  if (services.redis) env.REDIS_URL = services.redis.url;
  if (services.rocketmq) {
    env.ROCKETMQ_ENDPOINT = services.rocketmq.endpoint;
    env.ROCKETMQ_ADMIN ??= services.rocketmq.broker;
    // Before anybody asks for them: the proxy remembers a miss for 20 s.
    for (const thing of [
      ["topics", "create", demoTopic],
      ["groups", "create", demoGroup],
    ]) {
      const made = spawnSync(nodeBinary, [join(root, "src/cli/main.ts"), ...thing], { env, encoding: "utf8" });
      if (made.status !== 0) say(`escapement ${thing.join(" ")} failed: ${made.stderr.trim()}`);
    }
  }
  return env;
};

const readyWithin = async (url, ms, child) => {
  const until = Date.now() + ms;
  while (Date.now() < until && child.exitCode === null) {
    const reply = await fetch(`${url}/health/ready`).catch(() => undefined);
    if (reply?.ok) return true;
    await pause(100);
  }
  return false;
};

try {
  install();
  const env = await environment();
  const server = spawn(nodeBinary, [join(root, "src/main.ts")], { env, stdio: "inherit" });
  // The terminal sends Ctrl-C to both; other signals come to us alone.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => server.kill("SIGTERM"));
  server.on("exit", (code, signal) => process.exit(signal === null ? (code ?? 1) : 1));
  const url = `http://${env.HTTP_ADDR?.trim() || "127.0.0.1:7361"}`;
  if (await readyWithin(url, 30_000, server)) {
    const body = `{"topic":"${demoTopic}","body":"hello","delay":"5s"}`;
    say(`
API    ${url}/v1
Docs   ${url}/docs
Try    curl -s ${url}/v1/messages -H 'content-type: application/json' -d '${body}'
       (delivered to topic "${demoTopic}" of the RocketMQ at ${env.ROCKETMQ_ENDPOINT}; npm run example:consume prints it)
`);
  }
} catch (error) {
  say(error.message);
  process.exit(1);
}
