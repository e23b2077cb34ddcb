import { createRemotingAdmin, type RemotingAdmin } from "./adapters/rocketmq/remoting-admin.ts";
import { createRocketmqSource } from "./adapters/rocketmq/rocketmq-source.ts";
import type { SessionOptions } from "./adapters/rocketmq/session.ts";
import { createTransactionalProducer } from "./adapters/rocketmq/transactional-producer.ts";
import { Loop } from "./runtime/loop.ts";
import type { Random } from "./runtime/random.ts";
import { sleep } from "./runtime/timers.ts";
import { Backstop, type Rebuild } from "./tx/half/backstop.ts";
import type { BarrierStore } from "./tx/half/barrier.port.ts";
import type { HalfBroker } from "./tx/half/half-broker.port.ts";
import { type HalfTiming, halfTimingDefault } from "./tx/half/half-timing.ts";
import { HalfTransactions } from "./tx/half/half-transactions.ts";
import { TopicWatch } from "./tx/half/topic-watch.ts";

/**
 * Half mode, joined from its parts: the barrier that it is given, the producer of halves, a watch on each half topic, and the
 * backstop. It runs for as long as the process does: every instance that sends also answers checks for all others.
 */
export type HalfModeOptions<Tx> = Omit<SessionOptions, "idleMs" | "clientMark"> & {
  readonly barrier: BarrierStore<Tx>;
  /** Topics of type TRANSACTION; each sent to by nobody else. */
  readonly topics: readonly string[];
  /** The delay server's, also of type TRANSACTION. Without it delayed half messages are refused. */
  readonly ingestTopic?: string;
  /** The consumer group in which the topics are watched. Two databases in one group would hide messages from each other. */
  readonly watchGroup?: string;
  /** Remoting addresses of the brokers, to make topics and group where they are missing. Without they must be there. */
  readonly admin?: readonly string[];
  readonly keepBodyBytesMax?: number;
  readonly rebuild?: Rebuild;
  readonly timing?: Partial<HalfTiming>;
  readonly random: Random;
  /** How long a half may take to be sent. */
  readonly sendTimeoutMs?: number;
  /** Checks answered at a time. */
  readonly checksAtOnceMax?: number;
};

export type HalfMode<Tx> = {
  readonly transactions: HalfTransactions<Tx>;
  readonly broker: HalfBroker;
  readonly topics: ReadonlySet<string>;
  /** Resolves when every topic's producer and watch are known to the proxy, or rejects with what is missing. */
  ready(timeoutMs: number): Promise<void>;
  stop(): Promise<void>;
};

const keepBodyBytesMaxDefault = 65_536;
/** The watch has seen what was visible this long ago. */
const caughtUpWithinMs = 30_000;
/** A poll has reached the broker by then, also if it goes on for longer. */
const firstPollMs = 1_500;

export const startHalfMode = async <Tx>(options: HalfModeOptions<Tx>): Promise<HalfMode<Tx>> => {
  const { barrier, ingestTopic, rebuild, clock, timers, log, random } = options;
  const timing = { ...halfTimingDefault, ...options.timing };
  const databaseId = await barrier.databaseId();
  const watchGroup = options.watchGroup ?? `ESC_TX_SEEN_${databaseId.slice(0, 8)}`;
  const topics = new Set([...options.topics, ...(ingestTopic === undefined ? [] : [ingestTopic])]);
  const session = sessionOf(options);
  for (const broker of options.admin ?? []) {
    const admin = createRemotingAdmin({ broker, timers });
    try {
      for (const name of topics) await createTopic(admin, name);
      await admin.createGroup({ name: watchGroup });
    } catch (error) {
      log.warn(
        { broker, topics: [...topics], watchGroup, err: error },
        "could not make the half topics and their group",
      );
    }
  }

  const producer = createTransactionalProducer({
    ...session,
    check: (check) => transactions.answer(check),
    ...(options.sendTimeoutMs === undefined ? {} : { sendTimeoutMs: options.sendTimeoutMs }),
    ...(options.checksAtOnceMax === undefined ? {} : { checksAtOnceMax: options.checksAtOnceMax }),
  });
  const transactions: HalfTransactions<Tx> = new HalfTransactions({
    broker: producer,
    barrier,
    timing,
    databaseId,
    topics: new Set(options.topics),
    ingestTopic,
    keepBodyBytesMax: options.keepBodyBytesMax ?? keepBodyBytesMaxDefault,
    rebuilds: rebuild !== undefined,
    clock,
    random,
    timers,
    log,
  });
  const watched = [...topics].map((topic) => {
    producer.listen(topic);
    const source = createRocketmqSource({ ...session, topic, group: watchGroup });
    const watch = new TopicWatch({ topic, source, barrier, databaseId, clock });
    const loop = new Loop({ name: `watch of ${topic}`, timers, log, runOnce: (signal) => watch.runOnce(signal) });
    return { topic, source, watch, loop: loop.start() };
  });
  const caughtUpTopics = () => watched.flatMap(({ topic, watch }) => (watch.isCaughtUp(caughtUpWithinMs) ? topic : []));
  const backstop = new Backstop({ barrier, broker: producer, timing, caughtUpTopics, rebuild, log });
  const sweeper = new Loop({
    name: "half message backstop",
    timers,
    log,
    runOnce: (signal) => backstop.runOnce(signal),
  }).start();

  return {
    transactions,
    broker: producer,
    topics,
    async ready(timeoutMs) {
      const { signal } = new AbortController();
      for (const topic of topics) {
        if (!(await producer.registered(topic, timeoutMs, signal))) {
          throw new Error(`the proxy does not take us as a producer of ${topic}: ${producer.trouble(topic)}`);
        }
      }
      // A group that is new on a topic begins at its end: what is sent before its first poll would not be seen.
      await Promise.all(watched.map(({ watch }) => Promise.race([watch.firstPoll, sleep(timers, firstPollMs)])));
    },
    async stop() {
      await Promise.all([sweeper.stop(), ...watched.map(({ loop }) => loop.stop())]);
      await transactions.close();
      await producer.close();
      await Promise.all(watched.map(({ source }) => source.close()));
    },
  };
};

/** An existing topic keeps its queues; one of another type is an error. */
const createTopic = async (admin: RemotingAdmin, name: string): Promise<void> => {
  const existing = await admin.topic(name);
  const queues = existing === undefined ? {} : { queues: existing.queues };
  await admin.createTopic({ name, type: "TRANSACTION", ...queues });
};

const sessionOf = ({ endpoint, local, credentials, tls, log, clock, timers }: SessionOptions): SessionOptions => ({
  endpoint,
  ...(local === undefined ? {} : { local }),
  ...(credentials === undefined ? {} : { credentials }),
  ...(tls === undefined ? {} : { tls }),
  log,
  clock,
  timers,
});
