import type { Command } from "commander";

export const addServe = (program: Command): void => {
  program
    .command("serve")
    .summary("run the server in this process")
    .description(
      "Runs the server in this process until SIGTERM or SIGINT; a second signal ends it at once. It is configured by environment variables; mistakes in them are all named at once.",
    )
    .addHelpText(
      "after",
      `
Configuration, the most needed part:
  HTTP_ADDR          where to listen (default: 127.0.0.1:7361)
  REDIS_URL          where messages wait, for example redis://127.0.0.1:6379
  ROCKETMQ_ENDPOINT  where messages go, the proxy's gRPC host:port, for example 127.0.0.1:8081
  ROCKETMQ_ADMIN     the broker's host:port, for creating topics, for example 127.0.0.1:10911

Example:
  REDIS_URL=redis://127.0.0.1:6379 ROCKETMQ_ENDPOINT=127.0.0.1:8081 escapement serve`,
    )
    .action(async () => {
      // Loaded only here: every other command starts without the server and its dependencies.
      const { run } = await import("../../main.ts");
      await run();
    });
};
