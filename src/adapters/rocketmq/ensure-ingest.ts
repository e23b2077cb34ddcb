import { type RemotingAdmin, RemotingError, type TopicType } from "./remoting-admin.ts";
import { createRocketmqSource, type RocketmqSourceOptions } from "./rocketmq-source.ts";

/**
 * Makes the ingest topic and its consumer group ready before anybody sends to them. An existing topic is left as it is.
 *
 * - The topic takes all kinds of messages where the broker allows that (`enableMixedMessageType`), otherwise NORMAL
 *   ones: the only type that every sender can produce.
 * - A group that polls for the first time starts at the newest message of an old topic, not at the oldest. So it polls
 *   here, once, right after it was made.
 */
export type EnsureIngestOptions = Omit<RocketmqSourceOptions, "invisibleMs" | "pollMs" | "batchMax"> & {
  readonly admin: RemotingAdmin;
  /** Exactly this type, where the sort of message is given. */
  readonly type?: TopicType;
};

/** We retry ourselves; a broker that gives up on an ingest message would hide it in a topic of its own. */
const ingestRetryMaxTimes = 10_000;
const pollMs = 1_000;
/** Should a message come already, it is not acknowledged and is back after this. The least that a proxy allows. */
const invisibleMs = 10_000;

export const ensureIngest = async (options: EnsureIngestOptions): Promise<{ readonly type: string }> => {
  const { admin, topic, group, timers } = options;
  const type = (await admin.topic(topic))?.type ?? (await create(admin, topic, options.type));
  if (options.type !== undefined && type !== options.type) {
    throw new RemotingError(`topic ${topic} exists with type ${type}; it must be of type ${options.type}`);
  }
  if ((await admin.group(group))?.retryMaxTimes === ingestRetryMaxTimes) return { type };
  await admin.createGroup({ name: group, retryMaxTimes: ingestRetryMaxTimes });
  const source = createRocketmqSource({ ...options, batchMax: 1, pollMs, invisibleMs });
  const abort = new AbortController();
  // A proxy makes an empty poll 5 s long; the place to start at is set when it begins.
  const timer = timers.after(registrationAndPollMs, () => abort.abort());
  try {
    await source.receive(abort.signal);
  } finally {
    timer.cancel();
    await source.close();
  }
  return { type };
};

const registrationAndPollMs = 3_000;

const create = async (admin: RemotingAdmin, name: string, type: TopicType | undefined): Promise<TopicType> => {
  if (type === undefined) return createWidest(admin, name);
  await admin.createTopic({ name, type });
  return type;
};

const createWidest = async (admin: RemotingAdmin, name: string): Promise<TopicType> => {
  try {
    await admin.createTopic({ name, type: "MIXED" });
    return "MIXED";
  } catch (error) {
    if (!(error instanceof RemotingError) || error.code === undefined) throw error;
    await admin.createTopic({ name, type: "NORMAL" });
    return "NORMAL";
  }
};
