import type { ConsumerGroups } from "../../admin/consumer-groups.port.ts";
import type { TopicDirectory } from "../../ingest/topic-directory.port.ts";
import { EscapementError } from "../../message/errors.ts";
import { retryTopicOf } from "../../message/retry-topic.ts";
import type { Log } from "../../runtime/log.ts";
import type { RemotingAdmin } from "./remoting-admin.ts";

/**
 * Makes consumer groups ready for retries: the group, with a limit of redeliveries that is out of the way, and the topic
 * by which failed messages come back to it alone.
 *
 * Created before anybody asks the proxy for it, because a proxy remembers for some 20 s that a topic was missing.
 */

/** The consumer counts attempts itself; a broker that gave up on its own would put them where nobody looks. */
export const redeliveriesMax = 10_000;

/** What is asked of each broker that we may administer; of the embedded one, too. */
export type GroupAdmin = {
  readonly broker: string;
  /** Makes what is missing, and answers whether anything was. */
  makeReady(group: string, retryTopic: string, ordered: boolean): Promise<boolean>;
};

export type ConsumerGroupsOptions = {
  readonly ingestTopic: string;
  readonly admins: readonly GroupAdmin[];
  readonly directory: TopicDirectory;
  readonly log: Log;
};

export const createConsumerGroups = (options: ConsumerGroupsOptions): ConsumerGroups => ({
  async prepare(group, { ordered }) {
    const { ingestTopic, admins, directory, log } = options;
    const retryTopic = retryTopicOf(group);
    const reply = { group, retryTopic, ingestTopic };
    let trouble: string | undefined;
    for (const { broker, makeReady } of admins) {
      try {
        const isMade = await makeReady(group, retryTopic, ordered);
        if (isMade) log.info({ broker, group, retryTopic, ordered }, "consumer group made ready for retries");
      } catch (error) {
        trouble ??= error instanceof Error ? error.message : String(error);
      }
    }
    if (admins.length > 0 && trouble === undefined) return reply;
    // Somebody may have made it by hand. Of the group nobody can be asked; the proxy refuses a consumer without one.
    if ((await directory.lookUp(retryTopic)).outcome !== "missing") return reply;
    throw new EscapementError(
      "group_not_ready",
      `The retry topic ${retryTopic} does not exist and cannot be created from here (${trouble ?? "ROCKETMQ_ADMIN is not set"}). Create it and the group: ${commandsFor(group, ordered).join(" ; ")}`,
      { field: "group" },
    );
  },
});

export const remotingGroupAdmin = (broker: string, admin: RemotingAdmin): GroupAdmin => ({
  broker,
  async makeReady(group, retryTopic, ordered) {
    const hasTopic = await admin.topicExists(retryTopic);
    if (!hasTopic) await admin.createTopic({ name: retryTopic });
    const known = await admin.group(group);
    const hasGroup = known?.retryMaxTimes === redeliveriesMax && known.orderly === ordered;
    if (!hasGroup) await admin.createGroup({ name: group, retryMaxTimes: redeliveriesMax, orderly: ordered });
    return !(hasTopic && hasGroup);
  },
});

export const commandsFor = (group: string, ordered: boolean): readonly string[] => [
  `mqadmin updateTopic -n <name server> -c <cluster> -t ${retryTopicOf(group)} -r 8 -w 8 -a +message.type=NORMAL`,
  `mqadmin updateSubGroup -n <name server> -c <cluster> -g ${group} -r ${redeliveriesMax} -o ${ordered}`,
];
