import { brokerName } from "./names.ts";

/**
 * A recall handle, in RocketMQ's form with one field more: base64url of "v1 topic broker timestamp messageId name".
 * `name` is what the delay room knows the message by.
 */
export type RecallHandle = {
  readonly topic: string;
  readonly deliverAtMs: number;
  readonly messageId: string;
  readonly name: string;
};

export const recallHandle = ({ topic, deliverAtMs, messageId, name }: RecallHandle): string =>
  Buffer.from(`v1 ${topic} ${brokerName} ${deliverAtMs} ${messageId} ${name}`).toString("base64url");

/** Undefined for what is not one of ours. */
export const readRecallHandle = (handle: string): RecallHandle | undefined => {
  const [version, topic, broker, deliverAt, messageId, name, ...more] = Buffer.from(handle, "base64url")
    .toString("utf8")
    .split(" ");
  if (version !== "v1" || broker !== brokerName || more.length > 0) return undefined;
  if (topic === undefined || messageId === undefined || name === undefined) return undefined;
  return { topic, deliverAtMs: Number(deliverAt), messageId, name };
};
