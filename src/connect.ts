import { RedisDelayStore } from "./adapters/redis/redis-delay-store.ts";
import { RedisTopicMemory } from "./adapters/redis/redis-topic-memory.ts";
import { ensureIngest } from "./adapters/rocketmq/ensure-ingest.ts";
import { createRemotingAdmin } from "./adapters/rocketmq/remoting-admin.ts";
import { createRocketmqSink } from "./adapters/rocketmq/rocketmq-sink.ts";
import { createRocketmqSource, type RocketmqSourceOptions } from "./adapters/rocketmq/rocketmq-source.ts";
import { createRocketmqTopicDirectory } from "./adapters/rocketmq/rocketmq-topic-directory.ts";
import type { Config } from "./config.ts";
import { epochMs } from "./message/time.ts";
import type { Clock, MachineClock } from "./runtime/clock.ts";
import type { Log } from "./runtime/log.ts";
import type { Metrics } from "./runtime/metrics.ts";
import type { Random } from "./runtime/random.ts";
import type { Timers } from "./runtime/timers.ts";
import type { ServiceParts } from "./service.ts";

/** Turns addresses into adapters: the one file that knows which technology stands behind which port. */
export type Surroundings = {
  readonly log: Log;
  readonly machine: MachineClock;
  readonly timers: Timers;
  readonly random: Random;
  readonly metrics: Metrics;
};

export const connect = async (config: Config, surroundings: Surroundings): Promise<ServiceParts> => {
  const { log, machine, timers } = surroundings;
  // Adapters time their own calls and stamp what they send; deciding what is due is the service's checked clock alone.
  const clock: Clock = { nowMs: () => epochMs(Math.floor(machine.wallMs())), monotonicMs: machine.monotonicMs };
  const { endpoint, tls, credentials } = config.rocketmq;
  const session = {
    endpoint,
    ...(tls ? { tls: {} } : undefined),
    ...(credentials === undefined ? undefined : { credentials }),
    log,
    clock,
    timers,
  };
  const { url, namespace, durability, waitReplicas } = config.redis;
  const { dedupeWindowMs, shards } = config;
  const redis = { address: url, namespace, waitReplicas };
  const memory = await RedisTopicMemory.open(redis);
  const store = await RedisDelayStore.open({ ...redis, clock, durability, dedupeWindowMs, shardCount: shards });
  const directory = createRocketmqTopicDirectory(session);
  const { topic, group, receivers } = config.ingest;
  if (topic !== "") await prepareIngest(config, directory, session);
  const sources = Array.from({ length: topic === "" ? 0 : receivers }, () =>
    createRocketmqSource({ ...session, topic, group }),
  );
  return {
    ...surroundings,
    store,
    sink: createRocketmqSink(session),
    directory,
    memory,
    sources,
    node: config.node,
    leaseMs: config.leaseMs,
    ownTopics: new Set(topic === "" ? [] : [topic]),
    close: async () => {
      await directory.close();
      await memory.close();
    },
  };
};

/** Creates the ingest topic and group where we may; otherwise says exactly what an operator must create. */
const prepareIngest = async (
  config: Config,
  directory: { lookUp(topic: string): Promise<{ readonly outcome: string }> },
  session: Omit<RocketmqSourceOptions, "topic" | "group">,
): Promise<void> => {
  const { log, timers } = session;
  const { topic, group } = config.ingest;
  for (const broker of config.rocketmq.admin) {
    const admin = createRemotingAdmin({ broker, timers });
    try {
      await ensureIngest({ ...session, admin, topic, group });
    } catch (error) {
      log.warn({ broker, topic, group, err: error }, "could not create the ingest topic and group at this broker");
    }
  }
  if ((await directory.lookUp(topic)).outcome === "missing") {
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
