import {
  assertDocument,
  assertListing,
  type DocumentStore,
  type StoredDocument,
  type WriteResult,
} from "../../documents/document-store.port.ts";
import { parseRedisAddress } from "./redis-address.ts";
import { RedisConnection, type RedisConnectionOptions } from "./redis-connection.ts";
import { type RedisScript, scripts } from "./redis-scripts.ts";

/**
 * Documents on Redis or Redis Cluster. Those of one kind lie together under `esc:{doc:<kind>}:`, on one node of a
 * Cluster: a hash with all of them, and a sorted set of their names for lists. As durable as the messages beside them.
 */
export class RedisDocumentStore implements DocumentStore {
  readonly #connection: RedisConnection;
  readonly #namespace: string;

  static async open(
    options: RedisConnectionOptions & { readonly address: string; readonly namespace?: string },
  ): Promise<RedisDocumentStore> {
    const connection = new RedisConnection(parseRedisAddress(options.address), options);
    await connection.open();
    return new RedisDocumentStore(connection, options.namespace ?? "esc");
  }

  private constructor(connection: RedisConnection, namespace: string) {
    this.#connection = connection;
    this.#namespace = namespace;
  }

  async read(kind: string, name: string): Promise<StoredDocument | undefined> {
    assertDocument(kind, name);
    const found = (await this.#connection.command("hget", [`${this.#prefix(kind)}h`, name])) as Buffer | null;
    return found === null ? undefined : documentOf(name, found);
  }

  async list(
    kind: string,
    { prefix = "", after = "", limit }: { readonly prefix?: string; readonly after?: string; readonly limit: number },
  ): Promise<readonly StoredDocument[]> {
    assertListing(kind, limit);
    const highest = prefix === "" ? "+" : `(${prefix}\x7f`;
    const found: StoredDocument[] = [];
    for (;;) {
      const behind = found.at(-1)?.name ?? after;
      const lowest = behind >= prefix && behind !== "" ? `(${behind}` : prefix === "" ? "-" : `[${prefix}`;
      const args = [lowest, highest, limit - found.length, replyBytesMax];
      const [isCut, ...rest] = (await this.#run(scripts.documentList, kind, args)) as [number, ...Buffer[]];
      for (let i = 0; i < rest.length; i += 2) found.push(documentOf(rest[i]!.toString(), rest[i + 1]!));
      if (isCut === 0 || found.length === limit) return found;
    }
  }

  async write(kind: string, name: string, body: string, expected: number): Promise<WriteResult> {
    assertDocument(kind, name, body);
    const args = [name, expected, body];
    const reply = await this.#connection.runDurably(scripts.documentWrite, this.#prefix(kind), args);
    if (typeof reply === "number") return { outcome: "written", revision: reply };
    const current = reply as Buffer;
    return { outcome: "conflict", current: current.length === 0 ? undefined : documentOf(name, current) };
  }

  async remove(kind: string, name: string, expected: number): Promise<boolean> {
    assertDocument(kind, name);
    return (await this.#connection.runDurably(scripts.documentRemove, this.#prefix(kind), [name, expected])) === 1;
  }

  async close(): Promise<void> {
    this.#connection.close();
  }

  #run(script: RedisScript, kind: string, args: readonly (string | number)[]): Promise<unknown> {
    return this.#connection.run(script, this.#prefix(kind), args);
  }

  #prefix(kind: string): string {
    return `${this.#namespace}:{doc:${kind}}:`;
  }
}

/** As for a page of the dead. */
const replyBytesMax = 4_000_000;

const newline = 10;

const documentOf = (name: string, bytes: Buffer): StoredDocument => {
  const end = bytes.indexOf(newline);
  return { name, revision: Number(bytes.toString("latin1", 0, end)), body: bytes.toString("utf8", end + 1) };
};
