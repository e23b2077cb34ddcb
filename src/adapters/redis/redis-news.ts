import { Redis } from "ioredis";
import type { StoreListener } from "../../delay/delay-store.port.ts";
import type { EpochMs } from "../../message/time.ts";
import type { RedisAddress } from "./redis-address.ts";
import { clientOptions, type RedisConnectionOptions, reconnectAfterMs } from "./redis-connection.ts";
import { redisFailure } from "./redis-errors.ts";

/**
 * Hears what scripts publish, on a connection of its own. News is a courtesy: what was published while the connection
 * was down is lost, and listeners are told that there was a gap.
 *
 * In a Cluster any node passes all news on, so one plain connection is enough; when its node goes, the next one is tried.
 */
export class RedisNews {
  readonly #address: RedisAddress;
  readonly #options: RedisConnectionOptions;
  readonly #wakeChannel: string;
  readonly #changedChannel: string;
  readonly #listeners: StoreListener[] = [];
  #client: Redis | undefined;
  #opening: Promise<void> | undefined;

  constructor(address: RedisAddress, options: RedisConnectionOptions, wakeChannel: string, changedChannel: string) {
    this.#address = address;
    this.#options = options;
    this.#wakeChannel = wakeChannel;
    this.#changedChannel = changedChannel;
  }

  async listen(listener: StoreListener): Promise<void> {
    this.#listeners.push(listener);
    this.#opening ??= this.#open();
    await this.#opening;
  }

  close(): void {
    this.#listeners.length = 0;
    this.#client?.disconnect();
  }

  async #open(): Promise<void> {
    const { nodes } = this.#address;
    const client = new Redis({
      ...clientOptions(this.#address, this.#options),
      ...nodes[0]!,
      commandTimeout: this.#options.commandTimeoutMs ?? 5_000,
      lazyConnect: true,
      autoResubscribe: false, // nobody would hear that it failed: ioredis 6.0.0 leaves that rejection unhandled
      retryStrategy: (times: number) => {
        // The connector reads these when it connects again.
        Object.assign(client.options, nodes[times % nodes.length]);
        return reconnectAfterMs(times);
      },
    });
    this.#client = client;
    client.on("error", () => {}); // it comes back by itself, and the gap is told
    client.on("messageBuffer", (channel: Buffer, payload: Buffer) => this.#hear(channel.toString(), payload));
    try {
      await client.connect();
      await this.#subscribe(client);
    } catch (error) {
      client.disconnect();
      this.#opening = undefined;
      throw redisFailure(error);
    }
    client.on("ready", () => void this.#resume(client)); // from now on every "ready" is a return
  }

  async #resume(client: Redis): Promise<void> {
    try {
      await this.#subscribe(client);
    } catch {
      // Lost again, or no answer: the next connection tries again, and this one must not stay without news.
      if (client.status === "ready") client.disconnect(true);
      return;
    }
    for (const listener of this.#listeners) listener.onGap();
  }

  #subscribe(client: Redis): Promise<unknown> {
    return client.subscribe(this.#wakeChannel, this.#changedChannel);
  }

  #hear(channel: string, payload: Buffer): void {
    if (channel === this.#changedChannel) {
      for (const listener of this.#listeners) listener.onMembersChanged();
      return;
    }
    const shard = payload.readUInt16BE(0);
    for (let at = 2; at < payload.length; at += wakeBytes) {
      const lane = payload.readUInt32BE(at + 16);
      const dueMs = payload.readUIntBE(at + 20, 6) as EpochMs;
      for (const listener of this.#listeners) listener.onWake(shard, payload, at, lane, dueMs);
    }
  }
}

/** id 16, lane 4, due 6 */
const wakeBytes = 26;
