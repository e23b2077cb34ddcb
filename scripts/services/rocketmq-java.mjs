// How a part of RocketMQ is run: which Java, which jars, which flags, and where its log goes. Every process writes below
// the folder it is given and nowhere else: RocketMQ likes the home directory, so it is told another one.

import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { mavenJars } from "./maven-jars.mjs";
import { findProgram, requireProgram } from "./packages.mjs";

export const rocketmqVersion = "5.5.0";
const artifacts = ["rocketmq-proxy", "rocketmq-namesrv", "rocketmq-tools"].map(
  (part) => `org.apache.rocketmq:${part}:${rocketmqVersion}`,
);

const jvmFlags = [
  "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
  "--add-opens=java.base/java.nio=ALL-UNNAMED",
  "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
  "--add-opens=java.base/java.lang=ALL-UNNAMED",
  "--add-opens=java.base/java.util=ALL-UNNAMED",
  "-Dio.netty.tryReflectionSetAccessible=true",
];

function logConfig(file) {
  return `<configuration>
  <appender name="warnings" class="ch.qos.logback.core.rolling.RollingFileAppender">
    <file>${file}</file>
    <rollingPolicy class="ch.qos.logback.core.rolling.FixedWindowRollingPolicy">
      <fileNamePattern>${file}.%i</fileNamePattern><minIndex>1</minIndex><maxIndex>1</maxIndex>
    </rollingPolicy>
    <triggeringPolicy class="ch.qos.logback.core.rolling.SizeBasedTriggeringPolicy"><maxFileSize>10MB</maxFileSize></triggeringPolicy>
    <encoder><pattern>%d{HH:mm:ss.SSS} %p %c %t - %m%n</pattern></encoder>
  </appender>
  <logger name="RocketmqTransaction" level="ERROR"/>
  <root level="WARN"><appender-ref ref="warnings"/></root>
</configuration>
`;
}

function findJava(say) {
  const home = process.env.JAVA_HOME;
  const own = home === undefined || home === "" ? undefined : findProgram("java", join(home, "bin"));
  const java =
    own ??
    requireProgram("java", {
      packages: ["openjdk-17-jre-headless", "maven"],
      advice: "RocketMQ needs a Java runtime, version 11 or newer (17 is what we test with).",
      say,
    });
  const version = execFileSync(java, ["--version"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).match(
    /\d+/,
  );
  if (version === null || Number(version[0]) < 11)
    throw new Error(
      `${java} is Java ${version?.[0] ?? "of an unknown version"}; RocketMQ here needs 11 or newer (17 is what we test with)`,
    );
  return java;
}

export async function rocketmqRequirements(say) {
  return { java: findJava(say), jars: await mavenJars({ name: `rocketmq-${rocketmqVersion}`, artifacts, say }) };
}

/** The command of one process. `program` is its main class and arguments; warnings go to `folder/ROLE.warnings.log`. */
export function rocketmqCommand({ folder, role, heapMb, flags = [], program, requirements }) {
  const conf = join(folder, "conf");
  mkdirSync(conf, { recursive: true });
  const log = join(conf, `${role}.logback.xml`);
  writeFileSync(log, logConfig(join(folder, `${role}.warnings.log`)));
  return {
    command: requirements.java,
    args: [
      `-Xmx${heapMb}m`,
      ...flags,
      ...jvmFlags,
      `-Duser.home=${folder}`,
      `-Drmq.logback.configurationFile=${log}`,
      "-cp",
      [conf, join(requirements.jars, "*")].join(delimiter),
      ...program,
    ],
    env: { ROCKETMQ_HOME: folder },
  };
}
