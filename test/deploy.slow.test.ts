// docker-compose.yml, the Dockerfile and deploy/ must agree with each other and with what the service can be told.
// No container is started here. Where a compose tool is installed it judges the file; where it is not, that one test
// is reported as skipped and the rest still compares names, ports, mounts and settings.

import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { parseConfig, settings } from "../src/config.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const read = (path: string): string => readFileSync(`${root}${path}`, "utf8");

interface ComposeService {
  build?: string;
  image?: string;
  command?: string[];
  entrypoint?: string[];
  environment?: Record<string, string>;
  ports?: string[];
  volumes?: string[];
  depends_on?: Record<string, { condition: string }>;
  restart?: string;
  healthcheck?: { test: string[] };
  read_only?: boolean;
}

const compose = parse(read("docker-compose.yml")) as {
  services: Record<string, ComposeService>;
  volumes: Record<string, unknown>;
};
const services = Object.entries(compose.services);
const service = (name: string): ComposeService => {
  const found = compose.services[name];
  if (found === undefined) throw new Error(`docker-compose.yml has no service "${name}"`);
  return found;
};
const dockerfile = read("Dockerfile");
const properties = (text: string): Map<string, string> =>
  new Map(
    text
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"))
      .map((line) => {
        const [key, ...rest] = line.split(/[= ]/);
        return [key!, rest.join(" ")];
      }),
  );
const broker = properties(read("deploy/rocketmq/broker.conf"));
const proxy = JSON.parse(read("deploy/rocketmq/rmq-proxy.json")) as Record<string, string | number | boolean>;
const runsOn = (one: ComposeService): boolean => one.restart !== "no";

const tool = [["docker", "compose"], ["docker-compose"]].find(([program, ...rest]) => {
  try {
    execFileSync(program!, [...rest, "version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
});

test.skipIf(tool === undefined)("a compose tool accepts the file", () => {
  const [program, ...rest] = tool!;
  const options = { cwd: root, encoding: "utf8", stdio: "pipe" } as const;
  expect(() => execFileSync(program!, [...rest, "config", "-q"], options)).not.toThrow();
});

describe("docker-compose.yml", () => {
  test("every server says how to see that it is well", () => {
    const silent = services.filter(
      ([, one]) => runsOn(one) && one.build === undefined && one.healthcheck === undefined,
    );
    expect(silent.map(([name]) => name)).toEqual([]);
    expect(dockerfile).toMatch(/^HEALTHCHECK /m); // the built one carries its own
  });

  test("whoever waits for another waits for something that will come", () => {
    for (const [name, one] of services) {
      for (const [other, { condition }] of Object.entries(one.depends_on ?? {})) {
        const fitting = runsOn(service(other)) ? "service_healthy" : "service_completed_successfully";
        expect(condition, `${name} waits for ${other}`).toBe(fitting);
      }
    }
  });

  test("images have exact versions, and RocketMQ is the one that the tests run on", () => {
    for (const [name, one] of services) {
      if (one.build === undefined) expect(one.image, name).toMatch(/:\d+\.\d+[.\w-]*$/);
      if (name.startsWith("rocketmq-")) {
        expect(one.image).toBe(
          `apache/rocketmq:${/rocketmqVersion = "(.+)"/.exec(read("scripts/services/rocketmq-java.mjs"))?.[1]}`,
        );
      }
    }
  });

  test("ports are published on the loopback address only", () => {
    for (const [name, one] of services) {
      for (const port of one.ports ?? []) expect(port, name).toMatch(/^127\.0\.0\.1:\$\{[A-Z_]+:-(\d+)\}:\1$/);
    }
  });

  test("what is mounted exists, files only for reading", () => {
    for (const [name, one] of services) {
      for (const mount of one.volumes ?? []) {
        const [source, target, mode] = mount.split(":") as [string, string, string | undefined];
        if (!source.startsWith("./")) {
          expect(Object.keys(compose.volumes), name).toContain(source);
          continue;
        }
        expect(existsSync(`${root}${source}`), `${name} mounts ${source}`).toBe(true);
        expect(mode, mount).toBe("ro");
        expect([...(one.command ?? []), ...(one.entrypoint ?? [])], `${name} is not told to read ${target}`).toContain(
          target,
        );
      }
    }
  });
});

describe("the service's settings", () => {
  const given = service("escapement").environment ?? {};

  test("are known ones, complete and accepted", () => {
    expect(settings.map((one) => one.name as string)).toEqual(expect.arrayContaining(Object.keys(given)));
    expect(parseConfig(given, { pid: 1, terminal: false })).toBeDefined();
  });

  test("name addresses that the other containers answer at", () => {
    const redis = new URL(given.REDIS_URL!);
    expect(service(redis.hostname).ports?.[0]).toMatch(new RegExp(`:${redis.port}$`));
    const [proxyHost, proxyPort] = given.ROCKETMQ_ENDPOINT!.split(":") as [string, string];
    expect(service(proxyHost).command).toContain("mqproxy");
    expect(Number(proxyPort)).toBe(proxy.grpcServerPort);
    const [brokerHost, brokerPort] = given.ROCKETMQ_ADMIN!.split(":") as [string, string];
    expect(service(brokerHost).command).toContain("mqbroker");
    expect(brokerPort).toBe(broker.get("listenPort"));
    expect(brokerHost).toBe(broker.get("brokerIP1"));
  });

  test("listen where the health check, the image and the published port expect it", () => {
    const port = given.HTTP_ADDR!.split(":")[1]!;
    expect(dockerfile).toContain(`HTTP_ADDR=${given.HTTP_ADDR}\n`);
    expect(dockerfile).toMatch(new RegExp(`^EXPOSE ${port}$`, "m"));
    expect(dockerfile).toContain(`http://127.0.0.1:${port}/health/live`);
    expect(service("escapement").ports).toEqual([`127.0.0.1:\${HTTP_PORT:-${port}}:${port}`]);
    const local = settings.find((one) => one.name === "HTTP_ADDR");
    expect((local as { fallback?: string }).fallback).toMatch(new RegExp(`:${port}$`));
  });
});

describe("deploy/", () => {
  test("proxy and broker belong together", () => {
    expect(proxy.rocketMQClusterName).toBe(broker.get("brokerClusterName"));
    expect(proxy.namesrvAddr).toBe(broker.get("namesrvAddr"));
    const [host, port] = String(proxy.namesrvAddr).split(":") as [string, string];
    expect(service(host).healthcheck?.test.join(" ")).toContain(`/${port}`);
    expect(service("rocketmq-broker").volumes).toContain(`rocketmq-store:${broker.get("storePathRootDir")}`);
    expect(service("rocketmq-store-owner").volumes).toContain(`rocketmq-store:${broker.get("storePathRootDir")}`);
  });

  test("Redis keeps the settings that development and tests run with", () => {
    const deployed = properties(read("deploy/redis.conf"));
    const tested = read("scripts/services/redis.mjs");
    for (const key of ["appendonly", "appendfsync", "save", "maxmemory-policy", "zset-max-listpack-entries"]) {
      const value = new RegExp(`^  "?${key}"?: "(.*)",`, "m").exec(tested)?.[1];
      expect(value, `${key} in scripts/services/redis.mjs`).toBeDefined();
      expect(deployed.get(key)?.replaceAll('"', ""), key).toBe(value);
    }
  });
});

describe("deploy/rocketmq-cluster/", () => {
  const file = (name: string): Map<string, string> => properties(read(`deploy/rocketmq-cluster/${name}`));
  const [first, second, third] = ["nameserver-1", "nameserver-2", "controller-3"].map((name) => file(`${name}.conf`));
  const clusterProxy = JSON.parse(read("deploy/rocketmq-cluster/rmq-proxy.json")) as Record<string, string>;
  const differing = (one: Map<string, string>, other: Map<string, string>): string[] =>
    [...new Set([...one.keys(), ...other.keys()])].filter((key) => one.get(key) !== other.get(key));

  test("brokers and name servers differ in their names only", () => {
    expect(differing(file("broker-a.conf"), file("broker-b.conf"))).toEqual(["brokerName"]);
    expect(differing(first!, second!)).toEqual(["controllerDLegerSelfId"]);
  });

  test("three controllers agree on who they are, and brokers and proxies know all of them and both name servers", () => {
    const peers = first!.get("controllerDLegerPeers")!.split(";");
    expect(peers).toHaveLength(3);
    for (const [index, one] of [first, second, third].entries()) {
      expect(one!.get("controllerDLegerSelfId")).toBe(`n${index + 1}`);
      for (const key of ["controllerDLegerGroup", "controllerDLegerPeers", "enableElectUncleanMaster"]) {
        expect(one!.get(key), key).toBe(first!.get(key));
      }
    }
    const broker = file("broker-a.conf");
    expect(broker.get("controllerAddr")).toBe(peers.map((peer) => peer.replace(/^n\d-/, "")).join(";"));
    expect(clusterProxy.namesrvAddr).toBe(broker.get("namesrvAddr"));
    expect(clusterProxy.rocketMQClusterName).toBe(broker.get("brokerClusterName"));
  });

  test("no value ends in a blank: RocketMQ would ignore such a number without a word", () => {
    for (const name of readdirSync(`${root}deploy/rocketmq-cluster`)) {
      expect(read(`deploy/rocketmq-cluster/${name}`), name).not.toMatch(/[ \t]$/m);
    }
  });

  test("what docs/operations.md recommends is what the files say", () => {
    const page = read("docs/operations.md");
    const said = [...page.matchAll(/^\| `(\w+)` \| `([^`]+)`/gm)].map(([, key, value]) => [key!, value!] as const);
    const all = new Map([...first!, ...file("broker-a.conf")]);
    const ours = said.filter(([key]) => all.has(key));
    expect(ours.length).toBeGreaterThan(5);
    for (const [key, value] of ours) expect(all.get(key), key).toBe(value);
  });
});

describe("the image", () => {
  const lines = dockerfile.split("\n");

  test("runs the service unprivileged and read-only on the Node that the project uses", () => {
    const lastStage = lines.slice(lines.findLastIndex((line) => line.startsWith("FROM ")));
    expect(lastStage).toContain("USER node");
    expect(lastStage).toContain('CMD ["node", "src/main.ts"]');
    expect(existsSync(`${root}src/main.ts`)).toBe(true);
    expect(service("escapement").read_only).toBe(true);
    const wanted = /\^?(\d+)/.exec(JSON.parse(read("package.json")).devDependencies.node)?.[1];
    for (const from of lines.filter((line) => line.startsWith("FROM "))) expect(from).toContain(`node:${wanted}-`);
  });

  test("is built from files that exist and are not kept out of the build", () => {
    const allowed = read(".dockerignore")
      .split("\n")
      .filter((line) => line.startsWith("!"))
      .map((line) => line.slice(1));
    const copied = lines
      .filter((line) => line.startsWith("COPY ") && !line.includes("--from="))
      .flatMap((line) => line.split(" ").slice(1, -1));
    expect(copied.length).toBeGreaterThan(0);
    for (const path of copied) {
      expect(existsSync(`${root}${path}`), path).toBe(true);
      expect(allowed).toContain(path);
    }
  });
});
