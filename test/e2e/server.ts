import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { createRemotingAdmin, type TopicType } from "../../src/adapters/rocketmq/remoting-admin.ts";
import { systemTimers } from "../../src/adapters/system/system-time.ts";
import { services } from "../services.ts";

/** A real server process on a free port, with its own keys in the test's Redis. */
export type Server = {
  readonly url: string;
  readonly endpoint: string;
  readonly log: () => string;
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>;
  readonly process: ChildProcess;
};

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
const readyWithinMs = 20_000;

let names = 0;
/** A name that no other test uses. */
export const uniqueName = (prefix: string): string => `${prefix}_${process.pid}_${Date.now().toString(36)}_${names++}`;

export const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  return port;
};

export const startServer = async (env: Record<string, string> = {}): Promise<Server> => {
  const { redis, rocketmq } = await services();
  const address = `127.0.0.1:${await freePort()}`;
  const ingest = uniqueName("INGEST");
  const child = spawn(process.execPath, [main], {
    env: {
      PATH: process.env.PATH,
      HTTP_ADDR: address,
      REDIS_URL: redis.url,
      REDIS_NAMESPACE: uniqueName("e2e").slice(0, 32),
      ROCKETMQ_ENDPOINT: rocketmq.endpoint,
      ROCKETMQ_ADMIN: rocketmq.broker,
      INGEST_TOPIC: ingest,
      INGEST_GROUP: `${ingest}_GROUP`,
      LOG_FORMAT: "json",
      ...env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (part: Buffer) => {
      log = (log + part.toString()).slice(-100_000);
    });
  }
  const url = `http://${address}`;
  const until = Date.now() + readyWithinMs;
  for (;;) {
    const ready = await fetch(`${url}/health/ready`).catch(() => undefined);
    if (ready?.ok) break;
    if (child.exitCode !== null || Date.now() > until) {
      child.kill("SIGKILL");
      throw new Error(`the server did not get ready:\n${log}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    url,
    endpoint: rocketmq.endpoint,
    log: () => log,
    process: child,
    async stop() {
      if (child.exitCode !== null) return child.exitCode;
      child.kill("SIGTERM");
      const [code] = (await once(child, "exit")) as [number | null];
      return code;
    },
  };
};

/** Creates a topic and a consumer group for it, before anybody asks for them. */
export const createTopic = async (
  prefix: string,
  type: TopicType = "NORMAL",
): Promise<{ topic: string; group: string }> => {
  const { rocketmq } = await services();
  const admin = createRemotingAdmin({ broker: rocketmq.broker, timers: systemTimers });
  const topic = uniqueName(prefix);
  const group = `${topic}_G`;
  await admin.createTopic({ name: topic, type });
  await admin.createGroup({ name: group });
  return { topic, group };
};
