import { createPool, type Pool, type ResultSetHeader, type RowDataPacket } from "mysql2/promise";
import {
  assertDocument,
  assertListing,
  type DocumentStore,
  type StoredDocument,
  type WriteResult,
} from "../../documents/document-store.port.ts";
import { EscapementError } from "../../message/errors.ts";
import { documentError } from "./document-errors.ts";
import { classifyMysqlFailure } from "./mysql-failure.ts";
import { migrate } from "./mysql-migrations.ts";

/**
 * Documents in a table of MySQL 8 or MariaDB 10.11 and newer, made at the first start. Each call is one statement that
 * commits by itself; comparing and setting is its WHERE, so nothing is locked between two calls. Durable as far as
 * innodb_flush_log_at_trx_commit is 1, which is the default.
 */
export class MysqlDocumentStore implements DocumentStore {
  readonly #pool: Pool;
  readonly #table: string;
  #isClosed = false;

  /** Connects and brings the tables to the present version. */
  static async open({ url, tablePrefix = "escapement_" }: MysqlDocumentStoreOptions): Promise<MysqlDocumentStore> {
    const pool = createPool({ uri: url, connectionLimit: connectionsMax, connectTimeout: callTimeoutMs });
    const store = new MysqlDocumentStore(pool, `${tablePrefix}document`);
    try {
      const connection = await pool.getConnection();
      try {
        await migrate(connection, tablePrefix);
      } finally {
        connection.release();
      }
      return store;
    } catch (error) {
      await store.close();
      throw documentError(error);
    }
  }

  private constructor(pool: Pool, table: string) {
    this.#pool = pool;
    this.#table = table;
  }

  async read(kind: string, name: string): Promise<StoredDocument | undefined> {
    assertDocument(kind, name);
    const sql = `SELECT name, revision, body FROM ${this.#table} WHERE kind = ? AND name = ?`;
    const [row] = await this.#rows(sql, [bytes(kind), bytes(name)]);
    return row === undefined ? undefined : documentOf(row);
  }

  async list(
    kind: string,
    { prefix = "", after = "", limit }: { readonly prefix?: string; readonly after?: string; readonly limit: number },
  ): Promise<readonly StoredDocument[]> {
    assertListing(kind, limit);
    const found: StoredDocument[] = [];
    // Behind every name that begins with the prefix comes the prefix and a character that no name has.
    const bounds = [bytes(prefix), bytes(`${prefix}\x7f`)];
    for (;;) {
      const most = Math.min(limit - found.length, pageMax);
      const rows = await this.#rows(
        `SELECT name, revision, body FROM ${this.#table} WHERE kind = ? AND name > ? AND name >= ? AND name < ? ORDER BY name LIMIT ?`,
        [bytes(kind), bytes(found.at(-1)?.name ?? after), ...bounds, most],
      );
      found.push(...rows.map(documentOf));
      if (rows.length < most || found.length === limit) return found;
    }
  }

  async write(kind: string, name: string, body: string, expected: number): Promise<WriteResult> {
    assertDocument(kind, name, body);
    const [place, text] = [[bytes(kind), bytes(name)], bytes(body)];
    const changed =
      expected === 0
        ? await this.#insert([...place, text])
        : await this.#change(
            `UPDATE ${this.#table} SET revision = revision + 1, body = ? WHERE kind = ? AND name = ? AND revision = ?`,
            [text, ...place, expected],
          );
    if (changed === 1) return { outcome: "written", revision: expected + 1 };
    return { outcome: "conflict", current: await this.read(kind, name) };
  }

  async remove(kind: string, name: string, expected: number): Promise<boolean> {
    assertDocument(kind, name);
    const sql = `DELETE FROM ${this.#table} WHERE kind = ? AND name = ? AND revision = ?`;
    return (await this.#change(sql, [bytes(kind), bytes(name), expected])) === 1;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#pool.end().catch(() => {});
  }

  async #insert(values: readonly Buffer[]): Promise<number> {
    try {
      return await this.#change(`INSERT INTO ${this.#table} (kind, name, revision, body) VALUES (?, ?, 1, ?)`, values);
    } catch (error) {
      if (error instanceof Duplicate) return 0;
      throw error;
    }
  }

  async #rows(sql: string, values: readonly (Buffer | number)[]): Promise<RowDataPacket[]> {
    const [rows] = await this.#run(() => this.#pool.query<RowDataPacket[]>(asked(sql, values)));
    return rows;
  }

  async #change(sql: string, values: readonly (Buffer | number)[]): Promise<number> {
    const [result] = await this.#run(() => this.#pool.query<ResultSetHeader>(asked(sql, values)));
    return result.affectedRows;
  }

  async #run<T>(query: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      if (this.#isClosed) throw new EscapementError("store_unavailable", "the store was closed");
      try {
        return await query();
      } catch (error) {
        const failure = classifyMysqlFailure(error);
        if (failure === "duplicate") throw new Duplicate();
        // InnoDB has taken it back, and says that it may be tried again.
        if (failure === "deadlock" && tries < deadlockTriesMax) continue;
        throw documentError(error);
      }
    }
  }
}

export type MysqlDocumentStoreOptions = {
  /** `mysql://user:password@host:port/database`. */
  readonly url: string;
  /** What all table names begin with: lower case letters, digits and _. Default `escapement_`. */
  readonly tablePrefix?: string;
};

class Duplicate extends Error {}

/** Documents are read and written some ten times a second. */
const connectionsMax = 4;
/** As for Redis: a server that flushes its log may pause for a second. */
const callTimeoutMs = 5_000;
/** The largest documents of a page are 8 MB together. */
const pageMax = 32;
const deadlockTriesMax = 5;

/** As bytes, so that no character set of the connection has a part in it. */
const bytes = (text: string): Buffer => Buffer.from(text, "utf8");
const asked = (sql: string, values: readonly (Buffer | number)[]) => ({
  sql,
  values: [...values],
  timeout: callTimeoutMs,
});

const documentOf = ({ name, revision, body }: RowDataPacket): StoredDocument => ({
  name: (name as Buffer).toString("latin1"),
  revision: Number(revision),
  body: (body as Buffer).toString("utf8"),
});
