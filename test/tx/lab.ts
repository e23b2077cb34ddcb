import { createPool, type Pool, type RowDataPacket } from "mysql2/promise";
import { createRocketmqSource } from "../../src/adapters/rocketmq/rocketmq-source.ts";
import { parts, pauseMs, uniqueName } from "../../src/adapters/rocketmq/testing.ts";
import type { IncomingMessage } from "../../src/ingest/topic-source.port.ts";
import { migrate } from "../../src/tx-producer.ts";
import { openOwnDatabase } from "../mysql-database.ts";
import { services } from "../services.ts";

/** What the tests of transactional sends share: a database of their own on the real server, and who receives. */
export type Lab = AsyncDisposable & {
  readonly url: string;
  readonly pool: Pool;
  rows(sql: string, values?: unknown[]): Promise<RowDataPacket[]>;
  run(sql: string, values?: unknown[]): Promise<void>;
  /** Rows in the outbox. */
  waiting(): Promise<number>;
};

/** With the outbox's tables and one of the business: `orders (id, note)`. */
export const openLab = async ({
  serverUrl,
  migrated = true,
}: {
  serverUrl?: string;
  migrated?: boolean;
} = {}): Promise<Lab> => {
  const database = await openOwnDatabase(serverUrl ?? (await services()).mysql.url);
  const { url } = database;
  const pool = createPool({ uri: url, connectionLimit: 20 });
  if (migrated) await migrate(url);
  await pool.query("CREATE TABLE orders (id VARCHAR(64) PRIMARY KEY, note VARCHAR(255)) ENGINE=InnoDB");
  const rows = async (sql: string, values: unknown[] = []) => (await pool.query<RowDataPacket[]>(sql, values))[0];
  return {
    url,
    pool,
    rows,
    run: async (sql, values = []) => void (await pool.query(sql, values)),
    waiting: async () => Number((await rows("SELECT COUNT(*) AS n FROM escapement_outbox"))[0]!.n),
    async [Symbol.asyncDispose]() {
      await pool.end();
      await database[Symbol.asyncDispose]();
    },
  };
};

export type Collector = {
  readonly messages: (IncomingMessage & { readonly receivedAtMs: number })[];
  bodies(): string[];
  stop(): Promise<void>;
};

/** Receives everything of a topic from now on. */
export const collect = async (endpoint: string, topic: string, group = uniqueName("tx")): Promise<Collector> => {
  const source = createRocketmqSource({ endpoint, topic, group, ...parts });
  const messages: Collector["messages"] = [];
  const abort = new AbortController();
  const receiving = (async () => {
    while (!abort.signal.aborted) {
      try {
        const some = await source.receive(abort.signal);
        const receivedAtMs = Date.now();
        messages.push(...some.map((one) => ({ ...one, receivedAtMs })));
        await source.ack(some);
      } catch {
        await pauseMs(100);
      }
    }
  })();
  return {
    messages,
    bodies: () => messages.map(({ body }) => body.toString("utf8")),
    async stop() {
      abort.abort();
      await receiving;
      await source.close();
    },
  };
};

export const until = async (
  what: string,
  holds: () => boolean | Promise<boolean>,
  withinMs = 10_000,
): Promise<void> => {
  const endMs = performance.now() + withinMs;
  while (!(await holds())) {
    if (performance.now() > endMs) throw new Error(`not within ${withinMs} ms: ${what}`);
    await pauseMs(10);
  }
};

export const quickRelay = { idlePollMs: [20, 50], leaseMs: 2_000 } as const;
export { parts, pauseMs, uniqueName };
