import type { MessageId } from "../../message/id.ts";
import { ingestProperty } from "../../message/ingest-properties.ts";
import { property } from "../../message/message.ts";
import type { OutboxMessage } from "../outbox.port.ts";
import { TxError } from "../tx-error.ts";
import type { BarrierKey } from "./barrier.port.ts";
import type { HalfMessage } from "./half-broker.port.ts";

/**
 * From a message as a transaction sends it, in whichever mode, to the half that goes out for it. Pure. What is wrong with
 * a message in any mode has been refused before; here only what half messages cannot do.
 *
 * A broker loses a half with a delivery time: it says OK twice and never delivers it. So a delayed one is a half on the
 * ingest topic of the delay server, to whom it says in properties where and when; no timer ever touches the half.
 */
export type Outgoing = Pick<OutboxMessage, "id" | "topic" | "due" | "head" | "body">;

/** `id` is the half's own, drawn anew in each try of a transaction: what a check has settled must not stop the next try. */
export type HalfIdentity = BarrierKey & { readonly databaseId: string };

/** Travels with each half: `database.transaction.half`. Checks are answered by it, never by the broker's message id. */
export const txProperty = "ESC_TX";
export type HalfTopics = { readonly topics: ReadonlySet<string>; readonly ingestTopic: string | undefined };

export const halfOf = (message: Outgoing, identity: HalfIdentity, { topics, ingestTopic }: HalfTopics): HalfMessage => {
  const { topic, body, due, head } = message;
  if (head.messageGroup !== undefined) {
    throw new TxError(
      "half_with_group",
      "half messages have no order; send this topic in outbox mode, or without a message group",
    );
  }
  const properties = new Map(head.properties);
  properties.set(txProperty, [identity.databaseId, identity.txId, identity.id].join("."));
  const rest = { ...(head.tag === undefined ? {} : { tag: head.tag }), keys: head.keys ?? [], properties, body };
  if (due === undefined) {
    properties.set(property.id, message.id);
    return { topic, ...rest };
  }
  if (ingestTopic === undefined || topics.has(topic)) {
    throw new TxError(
      "half_with_delay",
      "RocketMQ loses half messages that have a delivery time, and a delay server cannot send to a transactional topic; send it to an ordinary one, named in half.delayedTopics with half.ingestTopic, or by the outbox",
    );
  }
  properties.set(ingestProperty.topic, topic);
  if ("atMs" in due) properties.set(ingestProperty.deliverAt, String(due.atMs));
  // From when it is visible there, which is after the commit.
  else properties.set(ingestProperty.delay, String(due.afterMs));
  // Two copies of one half are one message there, and its id is the one that was told to the sender.
  properties.set(ingestProperty.key, head.key ?? message.id);
  if (head.expireAfter !== undefined) properties.set(ingestProperty.expireAfter, head.expireAfter);
  return { topic: ingestTopic, ...rest };
};

/** Of a half or a received message; undefined when it is not one of ours. */
export const identityOf = (properties: ReadonlyMap<string, string>): HalfIdentity | undefined => {
  const [databaseId, txId, id, ...more] = (properties.get(txProperty) ?? "").split(".");
  if (!databaseId || !txId || id === undefined || !uuidPattern.test(id) || more.length > 0) return undefined;
  return { databaseId, txId, id: id as MessageId };
};

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
