import { randomBytes, randomUUID } from "node:crypto";
import { createPool, type Pool, type PoolConnection, type RowDataPacket } from "mysql2/promise";
import { barrierSchema, createMysqlBarrier } from "../../src/adapters/mysql/mysql-barrier.ts";
import { createRemotingAdmin } from "../../src/adapters/rocketmq/remoting-admin.ts";
import { createRocketmqSource } from "../../src/adapters/rocketmq/rocketmq-source.ts";
import { parts, pauseMs, uniqueName } from "../../src/adapters/rocketmq/testing.ts";
import { systemRandom } from "../../src/adapters/system/system-random.ts";
import { type HalfMode, type HalfModeOptions, startHalfMode } from "../../src/half-mode.ts";
import { timeOrderedId } from "../../src/message/id.ts";
import type { Log } from "../../src/runtime/log.ts";
import type { SqlExecutor } from "../../src/tx/database.port.ts";
import type { BarrierStore } from "../../src/tx/half/barrier.port.ts";
import type { Outgoing } from "../../src/tx/half/half-message.ts";
import type { HalfTiming } from "../../src/tx/half/half-timing.ts";
import { openOwnDatabase } from "../mysql-database.ts";

/** What the tests of half messages share: a database of their own, topics, instances that may die, and a witness. */

/** For a broker that asks after 2 s and then every second. */
export const quickTiming: HalfTiming = {
  turnMs: 1_500,
  commitWithinMs: 1_000,
  backstopAfterMs: 4_000,
  backstopLatestMs: 60_000,
  keepSettledMs: 86_400_000,
};

export type OpenTx = SqlExecutor & { readonly connection: PoolConnection };

export type HalfDatabase = {
  readonly pool: Pool;
  readonly barrier: BarrierStore<SqlExecutor>;
  begin(): Promise<OpenTx>;
  commit(tx: OpenTx): Promise<void>;
  rollback(tx: OpenTx): Promise<void>;
  drop(): Promise<void>;
};

export const openDatabase = async (url: string): Promise<HalfDatabase> => {
  const database = await openOwnDatabase(url);
  const pool = createPool({ uri: database.url, connectionLimit: 30 });
  for (const statement of barrierSchema) await pool.query(statement);
  return {
    pool,
    barrier: createMysqlBarrier({ pool }),
    async begin() {
      const connection = await pool.getConnection();
      await connection.beginTransaction();
      return {
        connection,
        async execute(sql, values) {
          const [result] = await connection.query(sql, [...values]);
          return Array.isArray(result) ? (result as RowDataPacket[]) : [];
        },
      };
    },
    async commit({ connection }) {
      await connection.commit();
      connection.release();
    },
    async rollback({ connection }) {
      await connection.rollback();
      connection.release();
    },
    async drop() {
      await pool.end();
      await database[Symbol.asyncDispose]();
    },
  };
};

export const outgoing = (topic: string, text: string, over: Partial<Outgoing> = {}): Outgoing => ({
  id: timeOrderedId(Date.now(), randomBytes(10), 0),
  topic,
  head: { tag: "created", keys: [text], properties: [["color", "blue"]] },
  body: Buffer.from(text),
  ...over,
});

/** Everything that comes on a topic, as some consumer group of its users sees it. */
export type Witness = {
  /** `warmUp` has come. */
  isWarm(): boolean;
  readonly seen: readonly Seen[];
  copies(text: string): number;
  until(text: string, withinMs: number): Promise<Seen>;
  stop(): Promise<void>;
};
export type Seen = { readonly text: string; readonly properties: ReadonlyMap<string, string>; readonly atMs: number };

export const newTopic = async (broker: string, prefix = "half", type: "TRANSACTION" | "NORMAL" = "TRANSACTION") => {
  const admin = createRemotingAdmin({ broker, timers: parts.timers });
  const topic = uniqueName(prefix);
  await admin.createTopic({ name: topic, type, queues: 2 });
  await admin.createGroup({ name: `${topic}_W` });
  return topic;
};

/** A message that only shows that a witness receives by now; it is not among what he has seen. */
export const warmUp = "warm-up";

export const witness = async (endpoint: string, topic: string): Promise<Witness> => {
  const source = createRocketmqSource({ ...parts, endpoint, topic, group: `${topic}_W`, pollMs: 1_000 });
  const abort = new AbortController();
  const seen: Seen[] = [];
  let isWarm = false;
  const receive = async () => {
    while (!abort.signal.aborted) {
      const messages = await source.receive(abort.signal).catch(async () => {
        await pauseMs(100);
        return [];
      });
      for (const { body, properties } of messages) {
        const text = body.toString();
        if (text === warmUp) isWarm = true;
        else seen.push({ text, properties, atMs: Date.now() });
      }
      await source.ack(messages);
    }
  };
  const receiving = receive();
  return {
    seen,
    isWarm: () => isWarm,
    copies: (wanted) => seen.filter(({ text }) => text === wanted).length,
    async until(wanted, withinMs) {
      const endMs = performance.now() + withinMs;
      for (;;) {
        const found = seen.find(({ text }) => text === wanted);
        if (found !== undefined) return found;
        if (performance.now() > endMs) throw new Error(`"${wanted}" was not visible on ${topic} within ${withinMs} ms`);
        await pauseMs(20);
      }
    },
    async stop() {
      abort.abort();
      await receiving;
      await source.close();
    },
  };
};

export type Said = { readonly text: string; readonly fields: Record<string, unknown> };

/** One instance of the application. `said` is its log. */
export const startInstance = async <Tx>(
  over: Pick<HalfModeOptions<Tx>, "barrier" | "endpoint" | "topics"> & Partial<HalfModeOptions<Tx>>,
): Promise<HalfMode<Tx> & { readonly said: readonly Said[] }> => {
  const said: Said[] = [];
  const line = (fields: unknown, text?: string) => {
    said.push({ text: text ?? String(fields), fields: fields as Record<string, unknown> });
  };
  const log = { debug: line, info: line, warn: line, error: line, fatal: line } as unknown as Log;
  const mode = await startHalfMode<Tx>({
    ...parts,
    log,
    random: systemRandom,
    timing: quickTiming,
    watchGroup: `${over.topics[0]}_SEEN`,
    ...over,
  });
  await mode.ready(5_000);
  return { ...mode, said };
};

export const newTxId = (): string => randomUUID();
