import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";

/** What the numbers were measured on, read when they are; never a host's name. */
export type Machine = {
  readonly cores: number;
  readonly cpu: string;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly system: string;
  readonly node: string;
  readonly redis: string;
  readonly java: string;
  readonly rocketmq: string;
  readonly bullmq: string;
};

const said = (command: string, args: string[], pattern: RegExp): string => {
  try {
    return (
      pattern.exec(execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }))?.[1] ?? "?"
    );
  } catch {
    return "?";
  }
};

export const thisMachine = (rocketmq: string): Machine => {
  const bullmq = JSON.parse(
    readFileSync(new URL("../../node_modules/bullmq/package.json", import.meta.url), "utf8"),
  ) as { version: string };
  return {
    cores: cpus().length,
    cpu: cpus()[0]?.model.trim() ?? "?",
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: /^\d+\.\d+/.exec(release())?.[0] ?? "?",
    system: /^PRETTY_NAME="(.*)"$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "?",
    node: process.version,
    redis: said("redis-server", ["--version"], /v=(\S+)/),
    java: said("java", ["--version"], /^\S+ (\S+)/),
    rocketmq,
    bullmq: bullmq.version,
  };
};
