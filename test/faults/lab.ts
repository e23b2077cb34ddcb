import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { redisCommand } from "../../scripts/services/redis-wire.mjs";
import type { RedisHandle, RocketmqHandle } from "../../scripts/services.mjs";
import { startRedis, stopServices } from "../../scripts/services.mjs";
import { createRemotingAdmin, type RemotingAdmin } from "../../src/adapters/rocketmq/remoting-admin.ts";
import { systemTimers } from "../../src/adapters/system/system-time.ts";
import { HttpCaller } from "./http-caller.ts";
import { Ledger, LedgerQueue } from "./ledger.ts";
import type { Size } from "./recipe.ts";
import { type SeededRandom, seededRandom } from "./seeded-random.ts";
import { freePort, ServerProcess } from "./server-process.ts";
import type { ClockAhead, Window } from "./verdict.ts";
import { startWitness, type Witness } from "./witness.ts";

/**
 * What one recipe runs in: a folder, a Redis of its own, topics of its own on a RocketMQ, servers as processes, the
 * ledger and the witness. Closing it ends everything it started and nothing else.
 *
 * Without a RocketMQ the server is the embedded one: one process at a time, with its own store and broker, always at
 * the same broker address and on the same folder. Topics and groups come into being by being used.
 */
export type LabOptions = {
  readonly recipe: string;
  readonly seed: number;
  readonly size: Size;
  /** The recipe's folder for logs, ledger and data. */
  readonly folder: string;
  /** Undefined: the embedded server. */
  readonly rocketmq: RocketmqHandle | undefined;
  readonly say: (line: string) => void;
};

const watchTriesMax = 10;
/** Copies that a killed broker had in hand come again after this; 30 s would be most of a short run. */
const embeddedInvisibleMs = 4_000;

export type Topics = { readonly normal: string; readonly fifo: string; readonly ingest: string };

export class Lab {
  readonly options: LabOptions;
  readonly random: SeededRandom;
  readonly folder: string;
  readonly http = new HttpCaller();
  readonly ledger: Ledger;
  readonly later: LedgerQueue;
  /** Every server ever started here, ended ones too. */
  readonly servers: ServerProcess[] = [];
  readonly windows: Window[] = [];
  readonly topics: Topics;
  /** Where the embedded server keeps everything. */
  dataFolder: string;
  #endpoint: string;
  #admin: RemotingAdmin | undefined;
  /** See verdict.ts. */
  clockAhead: ClockAhead | undefined;
  /** Serials seen by the witness. */
  readonly seen = new Set<number>();
  #witness: Witness | undefined;
  #strangersBefore = 0;
  #redis: RedisHandle | undefined;
  #fault: { fromMs: number; untilMs: number } | undefined;

  private constructor(options: LabOptions) {
    this.options = options;
    this.folder = options.folder;
    this.dataFolder = join(options.folder, "data");
    this.#endpoint = options.rocketmq?.endpoint ?? "";
    this.random = seededRandom(options.seed);
    mkdirSync(this.folder, { recursive: true });
    this.ledger = new Ledger(join(this.folder, "ledger.jsonl"));
    this.later = new LedgerQueue(this.ledger);
    const name = `${options.recipe}_${options.seed}_${Date.now().toString(36)}`.replace(/[^a-zA-Z0-9_-]/g, "_");
    this.topics = { normal: `${name}_n`, fifo: `${name}_f`, ingest: `${name}_in` };
  }

  /** With its topics made and its witness listening, or, embedded, with neither; without any server yet. */
  static async open(options: LabOptions): Promise<Lab> {
    const lab = new Lab(options);
    const { normal, fifo, ingest } = lab.topics;
    if (lab.isEmbedded) {
      lab.#endpoint = `127.0.0.1:${await freePort()}`;
      return lab;
    }
    try {
      await lab.admin.createTopic({ name: normal, queues: 4 });
      await lab.admin.createTopic({ name: fifo, type: "FIFO", queues: 4 });
      await lab.admin.createTopic({ name: ingest, queues: 4 });
      await lab.watch();
      return lab;
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  get isEmbedded(): boolean {
    return this.options.rocketmq === undefined;
  }

  get rocketmq(): RocketmqHandle {
    return this.options.rocketmq!;
  }

  get admin(): RemotingAdmin {
    this.#admin ??= createRemotingAdmin({ broker: this.rocketmq.broker, timers: systemTimers });
    return this.#admin;
  }

  /** Of whatever speaks RocketMQ here. */
  get endpoint(): string {
    return this.#endpoint;
  }

  /** The Redis of this recipe, started when it is first asked for. */
  async redis(
    config: Record<string, string> = {},
    name = "main",
    environment: Readonly<Record<string, string>> = {},
  ): Promise<RedisHandle> {
    if (name === "main" && this.#redis !== undefined) return this.#redis;
    const handle = await withEnvironment(environment, () =>
      startRedis({ runDir: this.folder, name, config, say: this.options.say }),
    );
    if (name === "main") this.#redis = handle;
    return handle;
  }

  get redisPort(): number {
    return this.#redis!.ports.port!;
  }

  /** One command to the recipe's Redis, past every proxy. */
  redisSay(...words: (string | number)[]): Promise<string | null> {
    return redisCommand(this.redisPort, words, 15_000);
  }

  /** Starts a server; its environment is laid over the usual one. */
  async server(
    name: string,
    environment: Readonly<Record<string, string>> = {},
    options: { readonly preload?: readonly string[]; readonly ready?: boolean } = {},
  ): Promise<ServerProcess> {
    const server = await ServerProcess.launch({
      name,
      folder: this.folder,
      http: this.http,
      preload: options.preload ?? [],
      environment: {
        ...(this.isEmbedded ? this.#embeddedParts() : await this.#distributedParts()),
        INGEST_TOPIC: this.topics.ingest,
        INGEST_GROUP: `${this.topics.ingest}_g`,
        INGEST_RECEIVERS: "2",
        SHARDS: "16",
        LEASE_MS: "3000",
        ...environment,
      },
    });
    this.servers.push(server);
    return options.ready === false ? server : server.untilReady();
  }

  async #distributedParts(): Promise<Record<string, string>> {
    const redis = this.#redis ?? (await this.redis());
    return {
      REDIS_URL: redis.url,
      ROCKETMQ_ENDPOINT: this.rocketmq.endpoint,
      ROCKETMQ_ADMIN: this.rocketmq.broker,
    };
  }

  #embeddedParts(): Record<string, string> {
    return { DATA_DIR: this.dataFolder, BROKER_ADDR: this.#endpoint };
  }

  get running(): ServerProcess[] {
    return this.servers.filter((server) => server.runs);
  }

  /** Ports to send to: of every server that runs. One that is frozen or cut off is still asked, as users would. */
  ports = (): number[] => this.running.map(({ port }) => port);

  /** Marks the beginning of trouble. */
  faultBegins(what: string): void {
    const nowMs = Date.now();
    this.#fault = { fromMs: Math.min(nowMs, this.#fault?.fromMs ?? nowMs), untilMs: nowMs };
    this.later.push({ kind: "fault", atMs: nowMs, what });
    this.options.say(`  ${what}`);
  }

  /** Marks the end of trouble: from here on things must become good by themselves. */
  faultEnds(what: string): void {
    const nowMs = Date.now();
    this.#fault = { fromMs: this.#fault?.fromMs ?? nowMs, untilMs: nowMs };
    this.later.push({ kind: "fault", atMs: nowMs, what });
    this.options.say(`  ${what}`);
  }

  get fault(): { readonly fromMs: number; readonly untilMs: number } | undefined {
    return this.#fault;
  }

  /** From now on duplicates of what was sent inside the interval are expected, up to so many. */
  allow(window: Window): void {
    this.windows.push(window);
  }

  async watch(): Promise<void> {
    const { normal, fifo } = this.topics;
    const topics = [normal, fifo].map((name) => ({ name, group: `${name}_w` }));
    if (!this.isEmbedded) for (const { group } of topics) await this.admin.createGroup({ name: group });
    this.#witness = await startWitness({
      endpoint: this.endpoint,
      ...(this.isEmbedded ? { invisibleMs: embeddedInvisibleMs } : undefined),
      topics,
      ledger: this.later,
      onCopy: (serial) => this.seen.add(serial),
    });
  }

  /** A new consumer in the same group: what a program does that lost its broker. */
  async watchAgain(): Promise<void> {
    this.#strangersBefore += this.#witness?.strangers() ?? 0;
    await this.#witness?.stop();
    // A proxy that has just come back does not know its routes yet, and the official client gives up soon.
    for (let tries = 1; ; tries++) {
      try {
        return await this.watch();
      } catch (error) {
        if (tries === watchTriesMax) throw error;
        await pause(500);
      }
    }
  }

  get strangers(): number {
    return this.#strangersBefore + (this.#witness?.strangers() ?? 0);
  }

  async close(): Promise<void> {
    await Promise.all(this.running.map((server) => server.kill()));
    await this.#witness?.stop();
    this.http.close();
    this.later.close();
    this.ledger.close();
    if (!this.isEmbedded) await stopServices({ names: ["redis"], runDir: this.folder });
  }
}

/** The service scripts start programs with our own environment. */
const withEnvironment = async <T>(environment: Readonly<Record<string, string>>, act: () => Promise<T>): Promise<T> => {
  const before = Object.keys(environment).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, environment);
  try {
    return await act();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
};

/** Waits until `condition` holds; false when it does not in time. */
export const eventually = async (withinMs: number, condition: () => boolean | Promise<boolean>): Promise<boolean> => {
  const endMs = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > endMs) return false;
    await pause(50);
  }
  return true;
};
