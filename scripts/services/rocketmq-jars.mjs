// RocketMQ's jars, fetched once with Maven into a cache that all run folders of this checkout share. The binary
// distribution is not in Maven's repositories, but its parts are: 150 jars, 102 MB, about half a minute.

import { execFile } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { withLock } from "./lock.mjs";
import { requireProgram } from "./packages.mjs";

export const rocketmqVersion = "5.5.0";
const copyPlugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1";
const downloadMaxMs = 280_000; // below the five minutes that others wait behind the lock
const cache = fileURLToPath(new URL(`../../.run/cache/rocketmq-${rocketmqVersion}`, import.meta.url));

function pomText() {
  const parts = ["rocketmq-proxy", "rocketmq-namesrv", "rocketmq-tools"];
  const dependencies = parts.map(
    (part) =>
      `<dependency><groupId>org.apache.rocketmq</groupId><artifactId>${part}</artifactId><version>${rocketmqVersion}</version></dependency>`,
  );
  return `<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>local</groupId><artifactId>rocketmq-jars</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
${dependencies.join("\n")}
</dependencies>
</project>
`;
}

/** The folder that holds the jars; downloads them when it does not exist yet. */
export async function rocketmqJars(say) {
  const jars = join(cache, "lib");
  if (existsSync(jars)) return jars;
  return withLock(cache, async () => {
    if (existsSync(jars)) return jars;
    const maven = requireProgram("mvn", {
      packages: ["maven"],
      advice: "Install Apache Maven 3.6 or newer; it fetches RocketMQ.",
      say,
    });
    say(`fetching RocketMQ ${rocketmqVersion} with Maven (once, 102 MB)`);
    const partial = join(cache, "lib.partial");
    rmSync(partial, { recursive: true, force: true });
    mkdirSync(partial, { recursive: true });
    writeFileSync(join(cache, "pom.xml"), pomText());
    try {
      await promisify(execFile)(
        maven,
        [
          "-q",
          "-B",
          "-f",
          join(cache, "pom.xml"),
          `${copyPlugin}:copy-dependencies`,
          "-DincludeScope=runtime",
          `-DoutputDirectory=${partial}`,
        ],
        { timeout: downloadMaxMs, maxBuffer: 16 * 1024 * 1024 },
      );
    } catch (error) {
      const lines = `${error.stdout ?? ""}${error.stderr ?? ""}`.split("\n").filter((line) => line.includes("ERROR"));
      throw new Error(
        `Maven could not fetch RocketMQ ${rocketmqVersion}: ${lines.slice(0, 3).join(" ") || error.message}`,
      );
    }
    renameSync(partial, jars); // only a complete folder ever gets the name
    return jars;
  });
}
