// Java parts, fetched once with Maven into a cache that all run folders of this checkout share. RocketMQ's binary
// distribution is not in Maven's repositories, but its parts are: 150 jars, 102 MB, about half a minute.

import { execFile } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { withLock } from "./lock.mjs";
import { requireProgram } from "./packages.mjs";

const copyPlugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1";
const downloadMaxMs = 280_000; // below the five minutes that others wait behind the lock
const caches = fileURLToPath(new URL("../../.run/cache", import.meta.url));

function pomText(artifacts) {
  const dependencies = artifacts.map((artifact) => {
    const [group, name, version] = artifact.split(":");
    return `<dependency><groupId>${group}</groupId><artifactId>${name}</artifactId><version>${version}</version></dependency>`;
  });
  return `<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>local</groupId><artifactId>jars</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
${dependencies.join("\n")}
</dependencies>
</project>
`;
}

/**
 * The folder that holds the artifacts (`group:name:version`) and all they need; downloads them when it does not exist
 * yet. `name` is the folder's name in the cache and should carry the version.
 */
export async function mavenJars({ name, artifacts, say }) {
  const cache = join(caches, name);
  const jars = join(cache, "lib");
  if (existsSync(jars)) return jars;
  return withLock(cache, async () => {
    if (existsSync(jars)) return jars;
    const maven = requireProgram("mvn", {
      packages: ["maven"],
      advice: `Install Apache Maven 3.6 or newer; it fetches ${name}.`,
      say,
    });
    say(`fetching ${name} with Maven (once)`);
    const partial = join(cache, "lib.partial");
    rmSync(partial, { recursive: true, force: true });
    mkdirSync(partial, { recursive: true });
    writeFileSync(join(cache, "pom.xml"), pomText(artifacts));
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
      throw new Error(`Maven could not fetch ${name}: ${lines.slice(0, 3).join(" ") || error.message}`);
    }
    renameSync(partial, jars); // only a complete folder ever gets the name
    return jars;
  });
}
