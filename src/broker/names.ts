import { code } from "../protocol/messaging-service.ts";
import { BrokerError } from "./broker-error.ts";

/**
 * Names of topics and groups: RocketMQ's own rules, and the names that it and we keep for ourselves.
 */
const pattern = /^[%|a-zA-Z0-9_-]+$/;
/** RocketMQ's TopicValidator. */
const topicCharactersMax = 127;
/** RocketMQ takes 255. Here the topic of a group's dead letters is the name of a folder, and can be received from. */
const groupCharactersMax = 235;

/** What routes and recall handles call this broker. */
export const brokerName = "escapement";

/** Where transactional messages wait for their end, and where those go that nobody could tell the end of. */
export const halfTopic = "RMQ_SYS_TRANS_HALF_TOPIC";
export const discardedTopic = "TRANS_CHECK_MAX_TIME_TOPIC";
export const transactionGroup = "CID_RMQ_SYS_TRANS";

const deadLetters = "%DLQ%";
export const deadLetterTopic = (group: string): string => deadLetters + group;

/** Of the system, and not for use from outside. */
const isReserved = (topic: string): boolean => /^rmq_sys_/i.test(topic) || topic === discardedTopic;

/** @throws BrokerError illegalTopic */
export const checkTopicName = (name: string): void => {
  const charactersMax = name.startsWith(deadLetters) ? deadLetters.length + groupCharactersMax : topicCharactersMax;
  if (name === "" || name.length > charactersMax || !pattern.test(name)) {
    throw new BrokerError(
      code.illegalTopic,
      `the topic name "${shown(name)}" must be 1 to ${topicCharactersMax} letters, digits and any of % | _ -`,
    );
  }
  if (isReserved(name)) throw new BrokerError(code.illegalTopic, `the topic "${name}" belongs to the broker itself`);
};

/** @throws BrokerError illegalConsumerGroup */
export const checkGroupName = (name: string): void => {
  if (name === "" || name.length > groupCharactersMax || !pattern.test(name)) {
    throw new BrokerError(
      code.illegalConsumerGroup,
      `the consumer group "${shown(name)}" must be 1 to ${groupCharactersMax} letters, digits and any of % | _ -`,
    );
  }
  if (name === transactionGroup)
    throw new BrokerError(code.illegalConsumerGroup, `the consumer group "${name}" belongs to the broker itself`);
};

/** What came from outside is shown short and without control characters. */
const shown = (name: string): string => name.slice(0, 64).replace(/[\u0000-\u001f\u007f]/g, "?");
