import type { Command } from "commander";
import { type Setting, settings } from "../../config.ts";
import { table } from "../wording.ts";

export const addServe = (program: Command): void => {
  program
    .command("serve")
    .summary("run the server in this process")
    .description(
      "Runs the server in this process until SIGTERM or SIGINT; a second signal ends it at once. It is configured by environment variables; mistakes in them are all named at once.",
    )
    .addHelpText("after", () => `\nConfiguration:\n${settingLines().join("\n")}\n${example}`)
    .action(async () => {
      // Loaded only here: every other command starts without the server and its dependencies.
      const { run } = await import("../../main.ts");
      await run();
    });
};

const settingLines = (): string[] =>
  table(
    settings.map(({ name, meaning, fallback }: Setting) => {
      if (fallback === undefined) return [`  ${name}`, `${meaning} (must be given)`];
      return [`  ${name}`, fallback === "" ? meaning : `${meaning} (default: ${fallback})`];
    }),
  );

const example = `
Examples:
  escapement serve                        everything in this process, files in ./data
  REDIS_URL=redis://127.0.0.1:6379 ROCKETMQ_ENDPOINT=127.0.0.1:8081 escapement serve`;
