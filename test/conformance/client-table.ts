import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { delimiter, join, resolve } from "node:path";
import { promisify } from "node:util";
import { mavenJars } from "../../scripts/services/maven-jars.mjs";
import type { DriverCommand } from "./driver-process.ts";

/** The official clients, and how each one's driver program is built and started. */
export type ClientName = "node" | "java" | "python" | "go";
export type Client = {
  readonly name: ClientName;
  readonly title: string;
  /** Whether it can be told to trust the broker's own certificate, which the pass over TLS needs. */
  readonly overTls: boolean;
  /** Fetches and builds what is missing; rejects with what to install. */
  prepare(): Promise<(endpoint: string, options: { tls: boolean }) => DriverCommand>;
};

const here = import.meta.dirname;
const runFolder = resolve(here, "../../.run/conformance");
const cache = resolve(here, "../../.run/cache/conformance");

const node: Client = {
  name: "node",
  title: "Node 1.0.8",
  overTls: false,
  async prepare() {
    // Its push consumer writes a log into the home folder whatever logger it is given.
    const home = join(runFolder, "home");
    mkdirSync(home, { recursive: true });
    return (endpoint, { tls }) => ({
      command: process.execPath,
      args: [join(here, "drivers/node/driver.ts"), endpoint, ...(tls ? ["--tls"] : [])],
      env: { HOME: home },
    });
  },
};

const java: Client = {
  name: "java",
  title: "Java 5.2.0",
  overTls: true,
  async prepare() {
    const jars = await mavenJars({
      name: "rocketmq-client-java-5.2.0",
      artifacts: ["org.apache.rocketmq:rocketmq-client-java:5.2.0"],
      say: (line) => process.stderr.write(`${line}\n`),
    });
    const source = join(here, "drivers/java/Driver.java");
    const classes = join(cache, `java-${createHash("sha256").update(readFileSync(source)).digest("hex").slice(0, 16)}`);
    if (!existsSync(classes)) {
      const partial = `${classes}.${process.pid}`;
      await promisify(execFile)("javac", ["-d", partial, "-cp", join(jars, "*"), source]);
      rmSync(classes, { recursive: true, force: true });
      renameSync(partial, classes);
    }
    mkdirSync(join(runFolder, "home"), { recursive: true });
    return (endpoint, { tls }) => ({
      command: "java",
      args: [
        "-Xmx512m",
        "-XX:TieredStopAtLevel=1", // starts sooner, and a machine with two cores has no time for the second compiler
        `-Duser.home=${join(runFolder, "home")}`,
        "-Drocketmq.log.level=warn",
        "-cp",
        [classes, join(jars, "*")].join(delimiter),
        "Driver",
        endpoint,
        ...(tls ? ["--tls"] : []),
      ],
    });
  },
};

export const clients: readonly Client[] = [node, java];
