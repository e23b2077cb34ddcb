import { openMysqlPool } from "./adapters/mysql/open-pool.ts";
import { systemTimers } from "./adapters/system/system-time.ts";
import { runProcess } from "./run-process.ts";
import { createLog } from "./runtime/log.ts";
import { Loop } from "./runtime/loop.ts";
import { createInbox, startRelay, type TxRocketmq } from "./tx-producer.ts";

/** `escapement relay`: sends what waits in an outbox, as a process of its own; several share the work. */
export type RelayProcessOptions = {
  readonly mysql: string;
  readonly rocketmq: TxRocketmq;
  readonly delayServer?: string;
  readonly ingestTopic: string;
  readonly batch: number;
  readonly perSecondMax: number;
  /** Absent: the inbox is not swept. */
  readonly inboxKeepMs?: number;
};

/** The outbox's two, the taking of shards, and the inbox's. */
const connections = 5;
const reportEveryMs = 60_000;

export const runRelay = async (options: RelayProcessOptions): Promise<void> => {
  const { mysql, rocketmq, delayServer, ingestTopic, batch, perSecondMax, inboxKeepMs } = options;
  const log = createLog({ level: process.env.LOG_LEVEL ?? "info", pretty: process.stdout.isTTY === true });
  await runProcess(log, async () => {
    const pool = openMysqlPool(mysql, { connections });
    const relay = await startRelay({
      rocketmq,
      pool,
      ...(delayServer === undefined ? undefined : { escapement: { url: delayServer } }),
      settings: { batch, perSecondMax },
      ingestTopic,
      log,
    }).catch(async (error: unknown) => {
      await pool.end();
      throw error;
    });
    const inbox = inboxKeepMs === undefined ? undefined : createInbox({ pool, keepMs: inboxKeepMs });
    let before = "";
    const runOnce = async (): Promise<number> => {
      const counts = relay.counts();
      const now = JSON.stringify(counts);
      // An idle relay says nothing.
      if (before !== "" && now !== before) log.info({ ...counts }, "since the start");
      before = now;
      await inbox?.sweep();
      return reportEveryMs;
    };
    const reporting = new Loop({ name: "relay report", timers: systemTimers, log, runOnce }).start();
    log.info({ rocketmq: rocketmq.endpoint, delayServer }, "the relay sends what waits in the outbox");
    return async () => {
      await reporting.stop();
      await relay.stop();
      await inbox?.close();
      await pool.end();
    };
  });
};
