import type { SessionOptions } from "./adapters/rocketmq/session.ts";
import { createTransactionAdmin } from "./adapters/rocketmq/transaction-admin.ts";
import { createTransactionalProducer } from "./adapters/rocketmq/transactional-producer.ts";
import { machineClock, systemTimers } from "./adapters/system/system-time.ts";
import { uncheckedClock } from "./runtime/clock.ts";
import type { Log } from "./runtime/log.ts";
import { type DoctorReport, examine, type ProbeBroker, probeProperty } from "./tx/doctor/doctor.ts";

/** The doctor of src/tx/doctor, joined with RocketMQ: for `mq.doctor()` and for `escapement tx doctor`. */
export type TxDoctorOptions = {
  /** How long the business's transactions may take. Default 30,000. */
  readonly longestTransactionMs?: number;
  /** Leaves a half open on each topic, for at most so long, to see whether the broker asks. It is rolled back. */
  readonly waitForCheckMs?: number;
  /** Leaves a half open for so long, to see whether the proxy still knows it. It is rolled back. */
  readonly proxyMemoryMs?: number;
};

export type ExamineClusterOptions = TxDoctorOptions & {
  readonly topics: readonly string[];
  /** Remoting addresses. */
  readonly brokers: readonly string[];
  readonly session: Pick<SessionOptions, "endpoint" | "credentials" | "tls">;
  readonly log: Log;
};

export const examineCluster = async (options: ExamineClusterOptions): Promise<DoctorReport> => {
  const { topics, brokers, session, log, ...probes } = options;
  const parts = { clock: uncheckedClock(machineClock), timers: systemTimers };
  const wantsProbe = probes.waitForCheckMs !== undefined || probes.proxyMemoryMs !== undefined;
  const probe = wantsProbe ? openProbe(topics, session, log) : undefined;
  try {
    return await examine({
      ...probes,
      ...parts,
      topics,
      brokers: brokers.map((broker) => createTransactionAdmin({ broker, timers: systemTimers })),
      endpoint: session.endpoint,
      ...(probe === undefined ? {} : { probe }),
    });
  } finally {
    await probe?.close();
  }
};

const registeredWithinMs = 5_000;

const openProbe = (
  topics: readonly string[],
  session: ExamineClusterOptions["session"],
  log: Log,
): ProbeBroker & { close(): Promise<void> } => {
  let answer: Parameters<ProbeBroker["onCheck"]>[0] = () => undefined;
  const producer = createTransactionalProducer({
    ...session,
    clock: uncheckedClock(machineClock),
    timers: systemTimers,
    log,
    check: async (check) => answer(check),
  });
  for (const topic of topics) producer.listen(topic);
  return {
    async send(topic, name) {
      await producer.registered(topic, registeredWithinMs, new AbortController().signal);
      const properties = new Map([[probeProperty, name]]);
      const sent = await producer.send({ topic, keys: [], properties, body: Buffer.from("probe") });
      return sent.ok ? sent.half : { refused: `${sent.failure.code}: ${sent.failure.detail}` };
    },
    rollback: (half) => producer.end(half, "rollback"),
    onCheck: (next) => {
      answer = next;
    },
    close: () => producer.close(),
  };
};
