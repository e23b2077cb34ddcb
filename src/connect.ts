import { join } from "node:path";
import { MysqlDocumentStore } from "./adapters/mysql/mysql-document-store.ts";
import { RedisDelayStore } from "./adapters/redis/redis-delay-store.ts";
import { RedisDocumentStore } from "./adapters/redis/redis-document-store.ts";
import { RedisTopicMemory } from "./adapters/redis/redis-topic-memory.ts";
import {
  createConsumerGroups,
  type GroupAdmin,
  redeliveriesMax,
  remotingGroupAdmin,
} from "./adapters/rocketmq/consumer-groups.ts";
import { ensureIngest } from "./adapters/rocketmq/ensure-ingest.ts";
import { createRemotingAdmin } from "./adapters/rocketmq/remoting-admin.ts";
import { createRocketmqSink } from "./adapters/rocketmq/rocketmq-sink.ts";
import { createRocketmqSource } from "./adapters/rocketmq/rocketmq-source.ts";
import { createRocketmqTopicDirectory } from "./adapters/rocketmq/rocketmq-topic-directory.ts";
import type { SessionOptions } from "./adapters/rocketmq/session.ts";
import { SqliteDelayStore } from "./adapters/sqlite/sqlite-delay-store.ts";
import type { ConsumerGroups } from "./admin/consumer-groups.port.ts";
import type { Config, RedisConfig, RocketmqConfig } from "./config.ts";
import type { DelayStore } from "./delay/delay-store.port.ts";
import type { DocumentStore } from "./documents/document-store.port.ts";
import type { TopicDirectory, TopicMemory } from "./ingest/topic-directory.port.ts";
import { type Clock, type MachineClock, uncheckedClock } from "./runtime/clock.ts";
import type { Log } from "./runtime/log.ts";
import type { Metrics } from "./runtime/metrics.ts";
import type { Random } from "./runtime/random.ts";
import type { Timers } from "./runtime/timers.ts";
import type { ServiceParts } from "./service.ts";
import { startBroker } from "./start-broker.ts";

/** Turns addresses into adapters: the one file that knows which technology stands behind which port. */
export type Surroundings = {
  readonly log: Log;
  readonly machine: MachineClock;
  readonly timers: Timers;
  readonly random: Random;
  readonly metrics: Metrics;
};

export const connect = async (
  config: Config,
  surroundings: Surroundings,
): Promise<ServiceParts & { readonly groups: ConsumerGroups }> => {
  const { machine } = surroundings;
  // Adapters time their own calls and stamp what they send; deciding what is due is the service's checked clock alone.
  const clock = uncheckedClock(machine);
  const beside =
    config.redis === undefined ? await openSqlite(config, surroundings) : await openRedis(config.redis, config, clock);
  const waiting = config.mysql === undefined ? beside : await withDocumentsIn(config.mysql, beside);
  const { topic, group, receivers } = config.ingest;
  const transactional = transactionalIngest(config);
  const rocketmq = await reachRocketmq(config, surroundings, clock).catch(async (error: unknown) => {
    await waiting.close();
    throw error;
  });
  const directory = createRocketmqTopicDirectory(rocketmq.session);
  const hasTransactional = topic !== "" && (await rocketmq.prepareIngest(directory));
  const sources = Array.from({ length: topic === "" ? 0 : receivers }, () =>
    createRocketmqSource({ ...rocketmq.session, topic, group }),
  );
  if (hasTransactional) sources.push(createRocketmqSource({ ...rocketmq.session, ...transactional }));
  const { log } = surroundings;
  return {
    ...surroundings,
    groups: createConsumerGroups({ ingestTopic: topic, admins: rocketmq.groupAdmins, directory, log }),
    store: waiting.store,
    documents: waiting.documents,
    sink: createRocketmqSink(rocketmq.session),
    directory,
    memory: waiting.memory,
    sources,
    node: config.node,
    leaseMs: config.leaseMs,
    ownTopics: new Set(topic === "" ? [] : [topic, transactional.topic]),
    close: async () => {
      await directory.close();
      await waiting.closeMemory();
      await rocketmq.close();
    },
  };
};

// --- where messages wait ------------------------------------------------------------------------------------------

type Waiting = {
  readonly store: DelayStore;
  readonly documents: DocumentStore;
  readonly memory: TopicMemory;
  /** Store and documents are closed by the service. */
  readonly closeMemory: () => Promise<void>;
  readonly close: () => Promise<void>;
};

const openRedis = async (redis: RedisConfig, config: Config, clock: Clock): Promise<Waiting> => {
  const { dedupeWindowMs, shards } = config;
  const { url, namespace, durability, waitReplicas } = redis;
  const address = { address: url, namespace, waitReplicas };
  const memory = await RedisTopicMemory.open(address);
  const documents = await RedisDocumentStore.open(address);
  const store = await RedisDelayStore.open({ ...address, clock, durability, dedupeWindowMs, shardCount: shards });
  const closeMemory = () => memory.close();
  const close = async () => void (await Promise.all([store.close(), documents.close(), closeMemory()]));
  return { store, documents, memory, closeMemory, close };
};

const openSqlite = async (config: Config, { machine, timers, log }: Surroundings): Promise<Waiting> => {
  const { dataDir, dedupeWindowMs, shards } = config;
  const store = await SqliteDelayStore.open({
    folder: dataDir,
    clock: machine,
    timers,
    dedupeWindowMs,
    shardCount: shards,
  });
  log.info({ folder: dataDir }, "messages wait in an SQLite file, for this one process; REDIS_URL is for more");
  const { documents, topicMemory: memory } = store;
  return { store, documents, memory, closeMemory: async () => {}, close: () => store.close() };
};

/** Documents in MySQL instead of beside the messages. */
const withDocumentsIn = async (mysql: NonNullable<Config["mysql"]>, beside: Waiting): Promise<Waiting> => {
  try {
    await beside.documents.close();
    const documents = await MysqlDocumentStore.open(mysql);
    return { ...beside, documents, close: async () => void (await Promise.all([beside.close(), documents.close()])) };
  } catch (error) {
    await beside.close();
    throw error;
  }
};

// --- where they go, and come in by a topic ------------------------------------------------------------------------

type Rocketmq = {
  readonly session: SessionOptions;
  /** Sees to it that the ingest topics and their groups exist; false when there is none for transactional messages. */
  readonly prepareIngest: (directory: TopicDirectory) => Promise<boolean>;
  readonly groupAdmins: readonly GroupAdmin[];
  readonly close: () => Promise<void>;
};

const reachRocketmq = async (config: Config, surroundings: Surroundings, clock: Clock): Promise<Rocketmq> => {
  const { log, timers } = surroundings;
  const { topic, group } = config.ingest;
  const transactional = transactionalIngest(config);
  if (config.rocketmq !== undefined) {
    const { endpoint, tls, credentials, admin } = config.rocketmq;
    const session = {
      endpoint,
      ...(tls ? { tls: {} } : undefined),
      ...(credentials === undefined ? undefined : { credentials }),
      log,
      clock,
      timers,
    };
    const prepareIngest = async (directory: TopicDirectory) => {
      const [, hasTransactional] = await Promise.all([
        createIngest(config.ingest, admin, session, directory),
        createTransactionalIngest(transactional, admin, session, directory),
      ]);
      return hasTransactional;
    };
    const groupAdmins = admin.map((broker) => remotingGroupAdmin(broker, createRemotingAdmin({ broker, timers })));
    return { session, prepareIngest, groupAdmins, close: async () => {} };
  }
  const { host, port } = config.embeddedBroker;
  const broker = await startBroker({ folder: join(config.dataDir, "broker"), host, port, ...surroundings });
  log.info({ broker: broker.endpoint }, "a RocketMQ 5 broker for development runs in this process");
  return {
    session: { endpoint: broker.endpoint, local: broker.messaging, log, clock, timers },
    prepareIngest: async () => {
      // Whatever type of message a client makes of its fields is taken in.
      await broker.createTopic(topic, { type: "MIXED" });
      await broker.createGroup(group, { attemptsMax: ingestAttemptsMax });
      await broker.createTopic(transactional.topic, { type: "TRANSACTION" });
      await broker.createGroup(transactional.group, { attemptsMax: ingestAttemptsMax });
      return true;
    },
    groupAdmins: [
      {
        broker: broker.endpoint,
        async makeReady(group, retryTopic, orderly) {
          await broker.createTopic(retryTopic);
          await broker.createGroup(group, { attemptsMax: redeliveriesMax + 1, orderly });
          return false; // it does not say whether they were there
        },
      },
    ],
    close: () => broker.stop(),
  };
};

/** What cannot be admitted is buried by us; a redelivery only says that we were down. */
const ingestAttemptsMax = 10_001;

/** Creates the ingest topic and group where we may; otherwise says exactly what an operator must create. */
const createIngest = async (
  { topic, group }: Config["ingest"],
  admins: RocketmqConfig["admin"],
  session: SessionOptions,
  directory: TopicDirectory,
): Promise<void> => {
  const { log, timers } = session;
  let isMade = false;
  for (const broker of admins) {
    const admin = createRemotingAdmin({ broker, timers });
    try {
      await ensureIngest({ ...session, admin, topic, group });
      isMade = true;
    } catch (error) {
      log.warn({ broker, topic, group, err: error }, "could not create the ingest topic and group at this broker");
    }
  }
  if ((await directory.lookUp(topic)).outcome !== "missing") return;
  if (isMade) {
    log.info(
      { topic, group },
      "the ingest topic is made; it may take the proxy 20 s to see it, and so long nothing comes in by it",
    );
  } else {
    const commands = [
      `mqadmin updateTopic -n <name server> -c <cluster> -t ${topic} -r 8 -w 8 -a +message.type=NORMAL`,
      `mqadmin updateSubGroup -n <name server> -c <cluster> -g ${group} -r 10000`,
    ];
    log.error(
      { topic, group, commands },
      "the ingest topic does not exist; give ROCKETMQ_ADMIN, or create it with these commands",
    );
  }
};

/** RocketMQ wants a topic for transactional messages alone, and a group that reads nothing else. */
const transactionalIngest = ({ ingest: { topic, group } }: Config): IngestPlace => ({
  topic: `${topic}_TX`,
  group: `${group}_TX`,
});

type IngestPlace = { readonly topic: string; readonly group: string };

/** The one for transactional messages is not missed by those who send none, so its absence is no error. */
const createTransactionalIngest = async (
  wanted: IngestPlace,
  admins: RocketmqConfig["admin"],
  session: SessionOptions,
  directory: TopicDirectory,
): Promise<boolean> => {
  const { log, timers } = session;
  for (const broker of admins) {
    const admin = createRemotingAdmin({ broker, timers });
    try {
      await ensureIngest({ ...session, ...wanted, admin, type: "TRANSACTION" });
    } catch (error) {
      log.warn({ broker, ...wanted, err: error }, "could not create the transactional ingest topic at this broker");
    }
  }
  if (admins.length > 0 || (await directory.lookUp(wanted.topic)).outcome !== "missing") return true;
  const commands = [
    `mqadmin updateTopic -n <name server> -c <cluster> -t ${wanted.topic} -r 8 -w 8 -a +message.type=TRANSACTION`,
    `mqadmin updateSubGroup -n <name server> -c <cluster> -g ${wanted.group} -r 10000`,
  ];
  log.info({ ...wanted, commands }, "no transactional ingest topic: delayed half messages need it, nothing else does");
  return false;
};
