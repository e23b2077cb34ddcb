import { type ChildProcess, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { pause } from "./pace.ts";
import type { Lab } from "./row.ts";
import type { Summary } from "./samples.ts";
import { noteStarted } from "./started.ts";

/** A real server, `node src/main.ts`, on a free port and with keys of its own in the benchmark's Redis. */
export type Server = {
  readonly pid: number;
  readonly port: number;
  readonly namespace: string;
  get(path: string): Promise<string>;
  /** All samples of /metrics by name with labels. */
  metrics(): Promise<ReadonlyMap<string, number>>;
  /** SIGTERM, and the end. */
  stop(): Promise<void>;
  /** At once, for good. */
  kill(signal: NodeJS.Signals): void;
  readonly exited: Promise<unknown>;
};

/** The same service with a sink that answers at once, and knows when each message came. */
export type NoopServer = Server & {
  /** What came since the last clear, by topic. */
  sunk(): Promise<Sunk>;
  /** How many came, by topic; as cheap as a question can be. */
  count(topic: string): Promise<number>;
  clear(): Promise<void>;
  /** Longest event-loop delay in ms since the last call. */
  loopDelayMs(): Promise<number>;
};

export type Sunk = Readonly<Record<string, Summary & { readonly firstAtMs: number; readonly lastAtMs: number }>>;

const mainFile = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
const noopFile = fileURLToPath(new URL("noop-server.ts", import.meta.url));
const readyWithinMs = 20_000;

let names = 0;
export const uniqueName = (what: string): string => `${what}_${process.pid}_${names++}`;

export const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  return port;
};

export type ServerOptions = {
  readonly namespace?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Node's own flags, for profiling. */
  readonly execArgv?: readonly string[];
  /** Do not wait until it is ready: what is measured may be that. */
  readonly eager?: boolean;
};

const environment = (lab: Lab, port: number, namespace: string, env: ServerOptions["env"]) => ({
  PATH: process.env.PATH,
  HTTP_ADDR: `127.0.0.1:${port}`,
  REDIS_URL: lab.redis.url,
  REDIS_NAMESPACE: namespace,
  ROCKETMQ_ENDPOINT: lab.rocketmq.endpoint,
  ROCKETMQ_ADMIN: lab.rocketmq.broker,
  INGEST_TOPIC: "",
  LOG_FORMAT: "json",
  LOG_LEVEL: "warn",
  ...env,
});

export const startServer = async (lab: Lab, options: ServerOptions = {}): Promise<Server> => {
  const port = await freePort();
  const namespace = options.namespace ?? uniqueName("bench");
  const profiling = process.env.BENCH_NODE_FLAGS?.split(" ") ?? [];
  const child = spawn(process.execPath, [...profiling, ...(options.execArgv ?? []), mainFile], {
    env: environment(lab, port, namespace, options.env),
    stdio: ["ignore", "pipe", "pipe"],
  });
  return settled(child, port, namespace, options.eager ?? false);
};

export const startNoopServer = async (lab: Lab, options: ServerOptions = {}): Promise<NoopServer> => {
  const port = await freePort();
  const namespace = options.namespace ?? uniqueName("bench");
  const child = fork(noopFile, {
    execArgv: [...(process.env.BENCH_NODE_FLAGS?.split(" ") ?? []), ...(options.execArgv ?? [])],
    env: environment(lab, port, namespace, options.env),
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
  const server = await settled(child, port, namespace, options.eager ?? false);
  const ask = async (question: string): Promise<unknown> => {
    const answer = once(child, "message");
    child.send(question);
    return (await answer)[0];
  };
  return {
    ...server,
    sunk: async () => (await ask("sunk")) as Sunk,
    count: async (topic) => ((await ask("count")) as Record<string, number>)[topic] ?? 0,
    clear: async () => void (await ask("clear")),
    loopDelayMs: async () => (await ask("loopDelay")) as number,
  };
};

const settled = async (child: ChildProcess, port: number, namespace: string, eager: boolean): Promise<Server> => {
  noteStarted(child.pid!);
  let log = "";
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on("data", (part: Buffer) => {
      log = (log + part.toString()).slice(-4_000);
      if (process.env.BENCH_LOG !== undefined) process.stderr.write(part);
    });
  }
  const exited = new Promise((resolve) => child.once("exit", resolve));
  const url = `http://127.0.0.1:${port}`;
  const get = async (path: string): Promise<string> => {
    const reply = await fetch(url + path);
    const text = await reply.text();
    if (!reply.ok) throw new Error(`${path} answered ${reply.status}: ${text}`);
    return text;
  };
  const endMs = performance.now() + readyWithinMs;
  while (!eager) {
    const ready = await get("/health/ready").then(
      () => true,
      () => false,
    );
    if (ready) break;
    if (child.exitCode !== null || performance.now() > endMs) {
      child.kill("SIGKILL");
      throw new Error(`the server did not get ready:\n${log}`);
    }
    await pause(20);
  }
  return {
    pid: child.pid!,
    port,
    namespace,
    get,
    metrics: async () => parseMetrics(await get("/metrics")),
    async stop() {
      child.kill("SIGTERM");
      await exited;
    },
    kill: (signal) => void child.kill(signal),
    exited,
  };
};

const parseMetrics = (text: string): Map<string, number> => {
  const samples = new Map<string, number>();
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const space = line.lastIndexOf(" ");
    samples.set(line.slice(0, space), Number(line.slice(space + 1)));
  }
  return samples;
};
