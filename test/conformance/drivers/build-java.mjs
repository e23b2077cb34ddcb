// The Java driver's classes, compiled against the client's jars from Maven Central.

import { execFile, execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { mavenJars } from "../../../scripts/services/maven-jars.mjs";
import { requireProgram } from "../../../scripts/services/packages.mjs";
import { builtOnce } from "./built-once.mjs";

const source = fileURLToPath(new URL("java/Driver.java", import.meta.url));

/** The folders of the classes and of the jars that they need. */
export async function javaDriver({ say = () => {} } = {}) {
  const javac = requireProgram("javac", {
    packages: ["openjdk-17-jdk-headless", "maven"],
    advice: "The Java driver of the conformance suite needs a Java development kit, version 11 or newer.",
    say,
  });
  const version = execFileSync(javac, ["-version"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  const jars = await mavenJars({
    name: "rocketmq-client-java-5.2.0",
    artifacts: ["org.apache.rocketmq:rocketmq-client-java:5.2.0"],
    say,
  });
  const classes = await builtOnce({
    name: "java",
    files: [source],
    also: [version, jars],
    async build(into) {
      say("compiling the Java driver (once)");
      mkdirSync(into, { recursive: true });
      await promisify(execFile)(javac, ["-d", into, "-cp", join(jars, "*"), source]);
    },
  });
  return { classes, jars };
}
