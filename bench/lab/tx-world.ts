import { createPool, type Pool, type PoolConnection, type RowDataPacket } from "mysql2/promise";
import {
  createTxProducer,
  fromMysql2,
  migrate,
  type TxProducer,
  type TxProducerOptions,
} from "../../src/tx-producer.ts";
import { openOwnDatabase } from "../../test/mysql-database.ts";
import { type Measured, Meter, type Processes } from "./meter.ts";
import { until } from "./pace.ts";
import { Samples } from "./samples.ts";

/**
 * What the benchmarks of transactional sends share: a database of their own with the outbox's tables and one of the
 * business, a producer on it, the server's own count of statements, and transactions with so many open at a time.
 */
export type TxWorld = AsyncDisposable & {
  readonly pool: Pool;
  readonly url: string;
  waiting(): Promise<number>;
  /** Statements that the server has answered so far, of all clients; nobody else uses it. */
  statements(): Promise<number>;
  producer(options: ProducerOptions): Promise<TxProducer<PoolConnection>>;
};

type ProducerOptions = Omit<TxProducerOptions<PoolConnection>, "rocketmq" | "db"> & {
  readonly endpoint: string;
  /** Told the callback's result when COMMIT was answered, before anything is sent for it. */
  readonly onCommitted?: (result: unknown) => void;
};

/** The pool must have room for the transactions and for what the producer holds. */
const connections = 64 + 8;

export const openTxWorld = async (serverUrl: string): Promise<TxWorld> => {
  const database = await openOwnDatabase(serverUrl);
  const { url, admin } = database;
  await migrate(url);
  const pool = createPool({ uri: url, connectionLimit: connections, maxIdle: connections });
  await pool.query("CREATE TABLE orders (id BIGINT AUTO_INCREMENT PRIMARY KEY, note VARCHAR(255)) ENGINE=InnoDB");
  const numberOf = async (from: Pool, sql: string, column: string): Promise<number> =>
    Number((await from.query<RowDataPacket[]>(sql))[0][0]![column]);
  return {
    pool,
    url,
    waiting: () => numberOf(pool, "SELECT COUNT(*) AS n FROM escapement_outbox", "n"),
    statements: () => numberOf(admin, "SHOW GLOBAL STATUS LIKE 'Questions'", "Value"),
    async producer({ endpoint, onCommitted, ...options }) {
      const db = fromMysql2(pool);
      const told: typeof db = {
        pool,
        async transaction(work) {
          const result = await db.transaction(work);
          onCommitted?.(result);
          return result;
        },
      };
      return createTxProducer({ ...options, rocketmq: { endpoint }, db: told });
    },
    async [Symbol.asyncDispose]() {
      await pool.end();
      await database[Symbol.asyncDispose]();
    },
  };
};

export const insertOrder = (tx: PoolConnection): Promise<unknown> =>
  tx.query("INSERT INTO orders (note) VALUES (?)", ["a business row of an ordinary length"]);

export type Load = {
  readonly measured: Measured;
  readonly numbers: { readonly "p50 ms": number; readonly "p99 ms": number; readonly statements?: number };
};

/**
 * Keeps `open` pieces of work going for a while. CPU and statements include what follows until `settled`; the rate and
 * the times do not. Something like it has run before, for as long as compiling takes.
 */
export const underLoad = async (
  { processes, durationMs, open }: { processes: Processes; durationMs: number; open: number },
  work: () => Promise<unknown>,
  world?: Pick<TxWorld, "statements">,
  settled: () => Promise<unknown> = async () => {},
): Promise<Load & { readonly count: number }> => {
  const run = async (forMs: number, samples: Samples) => {
    const endMs = performance.now() + forMs;
    const lane = async (): Promise<void> => {
      for (let beganMs = performance.now(); beganMs < endMs; ) {
        await work();
        const nowMs = performance.now();
        samples.push(nowMs - beganMs);
        beganMs = nowMs;
      }
    };
    await Promise.all(Array.from({ length: open }, lane));
  };
  await run(Math.min(2_000, durationMs / 2), new Samples());
  await settled();
  const samples = new Samples();
  const before = await world?.statements();
  const meter = new Meter(processes);
  const beganMs = performance.now();
  await run(durationMs, samples);
  const tookMs = performance.now() - beganMs;
  await settled();
  const count = samples.length;
  const measured = meter.stop(count, tookMs);
  const after = await world?.statements();
  const { p50Ms, p99Ms } = samples.summary();
  const statements = before === undefined || after === undefined ? {} : { statements: (after - before - 1) / count };
  return { count, measured, numbers: { "p50 ms": p50Ms, "p99 ms": p99Ms, ...statements } };
};

/** Nothing waits any more. Looks seldom, because a look is a statement. */
export const untilEmpty = (world: TxWorld, withinMs = 60_000): Promise<void> =>
  until("the outbox is empty", withinMs, async () => (await world.waiting()) === 0, 100);
