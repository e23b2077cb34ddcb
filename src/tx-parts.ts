import { hostname } from "node:os";
import { fromMysql2 } from "./adapters/mysql/from-mysql2.ts";
import type { Mysql2Pool } from "./adapters/mysql/mysql-connection.ts";
import { MysqlOutbox } from "./adapters/mysql/mysql-outbox.ts";
import { checkSchema } from "./adapters/mysql/outbox-schema.ts";
import { createRocketmqSink } from "./adapters/rocketmq/rocketmq-sink.ts";
import type { SessionOptions } from "./adapters/rocketmq/session.ts";
import { systemRandom } from "./adapters/system/system-random.ts";
import { machineClock, systemTimers } from "./adapters/system/system-time.ts";
import { timeOrderedId } from "./message/id.ts";
import { uncheckedClock } from "./runtime/clock.ts";
import type { Log } from "./runtime/log.ts";
import { Loop } from "./runtime/loop.ts";
import { cancelsInVainSaid } from "./tx/cancels-in-vain.ts";
import { Relay, type RelaySettings, relayDefaults } from "./tx/relay.ts";
import { createRowSender } from "./tx/row-sender.ts";
import { TxCounts } from "./tx/tx-counts.ts";
import { type DelayServerAddress, delayServerAt } from "./tx-delay-server.ts";

/** What a producer and a relay alone are both made of: the outbox in the database, and the ways out of it. */
export type TxRocketmq = Pick<SessionOptions, "endpoint" | "credentials" | "tls"> & {
  /** The longest that one send takes. Default 3,000. */
  readonly sendTimeoutMs?: number;
};

export const ingestTopicDefault = "ESC_INGEST";

export type TxPartsOptions = {
  readonly rocketmq: TxRocketmq;
  readonly escapement?: DelayServerAddress;
  readonly ingestTopic?: string;
  readonly pool: Mysql2Pool;
  readonly log: Log;
};

export type TxParts = Awaited<ReturnType<typeof joinTxParts>>;

export const joinTxParts = async ({
  rocketmq,
  escapement,
  ingestTopic = ingestTopicDefault,
  pool,
  log,
}: TxPartsOptions) => {
  const clock = uncheckedClock(machineClock);
  const timers = systemTimers;
  const random = systemRandom;
  const shardCount = await shardsOf(pool);
  const counts = new TxCounts();
  // Two connections: a relay that catches up does not hold up the fast path.
  const outbox = new MysqlOutbox(pool, shardCount);
  const relayOutbox = new MysqlOutbox(pool, shardCount);
  const sink = createRocketmqSink({ ...rocketmq, plainTopics: new Set([ingestTopic]), clock, timers, log });
  const delayServer = escapement === undefined ? undefined : delayServerAt(escapement);
  const cancelsInVain = cancelsInVainSaid({ clock, log });
  const sender = createRowSender({ sink, ingestTopic, delayServer: delayServer?.port, cancelsInVain });
  const owner = `${hostname().slice(0, 24)}:${process.pid}:${timeOrderedId(clock.nowMs(), random.bytes(new Uint8Array(10)), 0).slice(19)}`;
  return {
    clock,
    timers,
    random,
    counts,
    outbox,
    sender,
    relay(settings: Partial<RelaySettings>) {
      const given = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
      const relay = new Relay({
        outbox: relayOutbox,
        leases: relayOutbox.leases,
        sender,
        owner,
        clock,
        random,
        log,
        counts,
        settings: { ...relayDefaults, ...given },
      });
      const loop = new Loop({ name: "outbox relay", timers, log, runOnce: (signal) => relay.runOnce(signal) });
      const stop = async (): Promise<void> => {
        await loop.stop();
        // Others take over when the lease ends, should the database be away.
        await relay
          .stop()
          .catch((error: unknown) => log.warn({ err: error }, "the relay could not give its shards back"));
      };
      return { relay, loop, stop };
    },
    async close() {
      await sink.close();
      delayServer?.close();
      await Promise.all([outbox.close(), relayOutbox.close()]);
    },
  };
};

export const shardsOf = async (pool: Mysql2Pool): Promise<number> => {
  const connection = await pool.getConnection();
  try {
    return await checkSchema(fromMysql2(connection));
  } finally {
    connection.release();
  }
};
