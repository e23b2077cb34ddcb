import { Cluster, Redis } from "ioredis";
import { EscapementError } from "../../message/errors.ts";
import type { RedisAddress } from "./redis-address.ts";
import { redisFailure } from "./redis-errors.ts";
import type { RedisScript } from "./redis-scripts.ts";

/**
 * The connection over which scripts run: one socket to a Redis, or one to each node of a Cluster. It never repeats a
 * command by itself and never keeps one for later: a result that is not known is reported at once as
 * `store_unavailable`, and whoever asked decides. It reconnects for ever, with a pause that grows to two seconds.
 *
 * What surprised us: left at their defaults, the client resends commands after a reconnect, and in a Cluster also after
 * a closed connection; a claim that ran twice would then answer "gone" for messages that we hold.
 */
export type RedisArgument = string | number | Buffer;

export type RedisConnectionOptions = {
  /** No reply within this: `store_unavailable`. Default 5,000. A Redis that forks or writes its log may pause for 1 s. */
  readonly commandTimeoutMs?: number;
  /** Default 5,000. */
  readonly connectTimeoutMs?: number;
  /** So many replicas must have an accepted message before it is acknowledged. Default 0. */
  readonly waitReplicas?: number;
  /** How long to wait for them. Default 1,000. */
  readonly waitReplicasMs?: number;
};

export class RedisConnection {
  readonly address: RedisAddress;
  readonly waitReplicas: number;
  readonly #waitReplicasMs: number;
  readonly #client: Redis | Cluster;
  #lastTrouble: EscapementError | undefined;
  #isClosed = false;

  constructor(address: RedisAddress, options: RedisConnectionOptions = {}) {
    this.address = address;
    this.waitReplicas = options.waitReplicas ?? 0;
    this.#waitReplicasMs = options.waitReplicasMs ?? 1_000;
    const common = { ...clientOptions(address, options), commandTimeout: options.commandTimeoutMs ?? 5_000 };
    this.#client = address.isCluster
      ? new Cluster([...address.nodes], {
          lazyConnect: true,
          enableOfflineQueue: false,
          redisOptions: common,
          clusterRetryStrategy: reconnectAfterMs,
          // MOVED and ASK are answers that say "not done"; everything else is reported, not repeated.
          maxRedirections: 5,
          retryDelayOnFailover: 0,
          retryDelayOnClusterDown: 0,
          slotsRefreshInterval: 5_000,
          slotsRefreshTimeout: options.connectTimeoutMs ?? 5_000,
        })
      : new Redis({ ...common, ...address.nodes[0]!, lazyConnect: true, retryStrategy: reconnectAfterMs });
    // Every failed command says it too. Kept for `open`, whose own error is only "closed" where a password was wrong.
    this.#client.on("error", (error) => {
      this.#lastTrouble = redisFailure(error);
    });
  }

  async open(): Promise<void> {
    try {
      await this.#client.connect();
    } catch (error) {
      this.close();
      const failure = redisFailure(error);
      throw failure.code === "store_unavailable" ? (this.#lastTrouble ?? failure) : failure;
    }
    // A Cluster's nodes are connected by their first command, and the client refuses whatever comes during that. One
    // that is down says so when it is needed.
    await Promise.allSettled(this.primaries().map((node) => node.ping()));
  }

  /** Runs a script; replies are numbers, Buffers and arrays of them. */
  async run(script: RedisScript, key: string, args: readonly RedisArgument[]): Promise<unknown> {
    try {
      return await this.#client.callBuffer("evalsha", script.sha, 1, key, ...args);
    } catch (error) {
      if (!isNoScript(error)) throw this.#failure(error);
    }
    try {
      return await this.#client.callBuffer("eval", script.text, 1, key, ...args);
    } catch (error) {
      throw this.#failure(error);
    }
  }

  /** Runs a script whose effect must be on `waitReplicas` replicas before it counts. */
  async runDurably(script: RedisScript, key: string, args: readonly RedisArgument[]): Promise<unknown> {
    if (this.waitReplicas === 0) return this.run(script, key, args);
    const [first] = await this.#runAndWait("evalsha", script.sha, key, args);
    if (first === undefined || !isNoScript(first.error)) return this.#replicated(first);
    const [second] = await this.#runAndWait("eval", script.text, key, args);
    return this.#replicated(second);
  }

  /** A single command of Redis. */
  async command(name: string, args: readonly RedisArgument[]): Promise<unknown> {
    try {
      return await this.#client.callBuffer(name, ...args);
    } catch (error) {
      throw this.#failure(error);
    }
  }

  /** The primaries, for questions that each must answer. */
  primaries(): Redis[] {
    return this.#client instanceof Cluster ? this.#client.nodes("master") : [this.#client];
  }

  close(): void {
    this.#isClosed = true;
    this.#client.disconnect();
  }

  // WAIT speaks of what the same connection wrote before, so both travel together.
  async #runAndWait(verb: string, script: string, key: string, args: readonly RedisArgument[]): Promise<Waited[]> {
    let results: [Error | null, unknown][] | null;
    try {
      const pipeline = this.#client.pipeline();
      pipeline.callBuffer(verb, script, 1, key, ...args);
      pipeline.call("wait", this.waitReplicas, this.#waitReplicasMs);
      results = await pipeline.exec();
    } catch (error) {
      throw this.#failure(error);
    }
    const [ran, waited] = results ?? [];
    if (ran === undefined || waited === undefined) return [];
    return [{ error: ran[0], reply: ran[1], waitError: waited[0], replicas: Number(waited[1]) }];
  }

  #replicated(waited: Waited | undefined): unknown {
    if (waited === undefined) throw redisFailure(undefined);
    if (waited.error !== null) throw this.#failure(waited.error);
    if (waited.waitError !== null) throw this.#failure(waited.waitError);
    if (waited.replicas < this.waitReplicas) {
      throw new EscapementError(
        "store_unavailable",
        `${waited.replicas} of ${this.waitReplicas} replicas confirmed the write within ${this.#waitReplicasMs} ms`,
      );
    }
    return waited.reply;
  }

  #failure(error: unknown): EscapementError {
    return this.#isClosed ? new EscapementError("store_unavailable", "the store was closed") : redisFailure(error);
  }
}

type Waited = {
  readonly error: Error | null;
  readonly reply: unknown;
  readonly waitError: Error | null;
  readonly replicas: number;
};

/** What every connection of ours has in common, the listening one too. */
export const clientOptions = (address: RedisAddress, options: RedisConnectionOptions) => ({
  ...(address.username === undefined ? {} : { username: address.username }),
  ...(address.password === undefined ? {} : { password: address.password }),
  ...(address.isTls ? { tls: {} } : {}),
  db: address.database,
  connectTimeout: options.connectTimeoutMs ?? 5_000,
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false,
  connectionName: "escapement",
});

export const reconnectAfterMs = (times: number): number => Math.min(50 * 2 ** Math.min(times - 1, 6), 2_000);

const isNoScript = (error: unknown): boolean => error instanceof Error && error.message.startsWith("NOSCRIPT");
