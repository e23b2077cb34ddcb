import type { TopicMemory } from "../../ingest/topic-directory.port.ts";
import { parseRedisAddress } from "./redis-address.ts";
import { RedisConnection, type RedisConnectionOptions } from "./redis-connection.ts";

/** Topics that were once seen to exist, as a set in Redis. */
export class RedisTopicMemory implements TopicMemory {
  readonly #connection: RedisConnection;
  readonly #key: string;

  static async open(
    options: RedisConnectionOptions & { readonly address: string; readonly namespace?: string },
  ): Promise<RedisTopicMemory> {
    const connection = new RedisConnection(parseRedisAddress(options.address), options);
    await connection.open();
    return new RedisTopicMemory(connection, `${options.namespace ?? "esc"}:topics`);
  }

  private constructor(connection: RedisConnection, key: string) {
    this.#connection = connection;
    this.#key = key;
  }

  async known(): Promise<readonly string[]> {
    return ((await this.#connection.command("smembers", [this.#key])) as Buffer[]).map(String);
  }

  async remember(topic: string): Promise<void> {
    await this.#connection.command("sadd", [this.#key, topic]);
  }

  async close(): Promise<void> {
    this.#connection.close();
  }
}
