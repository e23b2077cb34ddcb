import { mkdirSync } from "node:fs";
import { delimiter, join, resolve } from "node:path";
import type { DriverCommand } from "./driver-process.ts";
import { goDriver } from "./drivers/build-go.mjs";
import { javaDriver } from "./drivers/build-java.mjs";
import { pythonDriver } from "./drivers/build-python.mjs";

/** The official clients, and how each one's driver program is built and started. */
export type ClientName = "node" | "java" | "python" | "go";
export type Client = {
  readonly name: ClientName;
  readonly title: string;
  /** Whether it, or its driver, can trust the certificate that the broker made for itself. */
  readonly overTls: boolean;
  /** Fetches and builds what is missing; rejects with what to install. */
  prepare(say: (line: string) => void): Promise<(endpoint: string, options: { tls: boolean }) => DriverCommand>;
};

const here = import.meta.dirname;

/** Clients write logs into the home folder whatever they are told; this one is theirs. */
const home = (): string => {
  const folder = resolve(here, "../../.run/conformance/home");
  mkdirSync(folder, { recursive: true });
  return folder;
};

const withEndpoint =
  ({ command, args }: DriverCommand) =>
  (endpoint: string, { tls }: { tls: boolean }): DriverCommand => ({
    command,
    args: [...args, endpoint, ...(tls ? ["--tls"] : [])],
    env: { HOME: home() },
  });

const node: Client = {
  name: "node",
  title: "Node 1.0.8",
  overTls: false,
  prepare: async () => withEndpoint({ command: process.execPath, args: [join(here, "drivers/node/driver.ts")] }),
};

const java: Client = {
  name: "java",
  title: "Java 5.2.0",
  overTls: true,
  async prepare(say) {
    const { classes, jars } = await javaDriver({ say });
    const flags = [
      "-Xmx512m",
      "-XX:TieredStopAtLevel=1", // starts sooner, and a machine with two cores has no time for the second compiler
      "-XX:+UseSerialGC",
      `-Duser.home=${home()}`,
      "-Drocketmq.log.level=warn",
    ];
    return withEndpoint({
      command: "java",
      args: [...flags, "-cp", [classes, join(jars, "*")].join(delimiter), "Driver"],
    });
  },
};

const python: Client = {
  name: "python",
  title: "Python 5.1.2",
  overTls: true,
  prepare: async (say) => withEndpoint(await pythonDriver({ say })),
};

const go: Client = {
  name: "go",
  title: "Go v5.1.2",
  overTls: true,
  prepare: async (say) => withEndpoint(await goDriver({ say })),
};

export const clients: readonly Client[] = [node, java, python, go];
