import type { FailureClass, SendFailure } from "../../dispatch/sink.port.ts";
import { code } from "../../protocol/messaging-service.ts";
import type { TransportFailure } from "./session.ts";
import { timedOut, unreadable } from "./session.ts";

/**
 * What a failed send means: the one table. Two questions decide a row. Can the message have been stored? Then it is
 * `unknown`, because sending again may make a second copy. Is it this message's own fault? Only then `permanent`,
 * because a permanent failure ends a message: a broken proxy, a missing permission or a topic that is not there
 * (yet, or while its broker is away) must never empty the store into the dead letters.
 *
 * Everything is decided by code, with two exceptions that RocketMQ forces on us. A proxy in local mode answers every
 * refusal of its broker with 50001, and only the broker's remark tells "please slow down" from "did it, but late". And
 * a topic without a route is refused like one of the wrong type; only the text says that the type is not known.
 */
type Row = readonly [failureClass: FailureClass, name: string];

const byProxyCode: ReadonlyMap<number, Row> = new Map<number, Row>([
  [code.illegalTopic, ["permanent", "illegal_topic"]],
  [code.illegalMessageTag, ["permanent", "illegal_tag"]],
  [code.illegalMessageKey, ["permanent", "illegal_key"]],
  [code.illegalMessageGroup, ["permanent", "illegal_message_group"]],
  [code.illegalMessagePropertyKey, ["permanent", "illegal_property"]],
  [code.illegalMessageId, ["permanent", "illegal_message_id"]],
  [code.illegalDeliveryTime, ["permanent", "illegal_delivery_time"]],
  [code.messageCorrupted, ["permanent", "message_corrupted"]],
  [code.payloadTooLarge, ["permanent", "message_too_large"]],
  [code.messageBodyTooLarge, ["permanent", "body_too_large"]],
  [code.messageBodyEmpty, ["permanent", "empty_body"]],
  [code.messagePropertiesTooLarge, ["permanent", "properties_too_large"]],
  [code.unauthorized, ["transient", "not_authenticated"]],
  [code.forbidden, ["transient", "not_permitted"]],
  [code.topicNotFound, ["transient", "topic_route_missing"]],
  [code.tooManyRequests, ["throttled", "broker_throttling"]],
  [code.requestTimeout, ["unknown", "broker_timeout"]],
  [code.proxyTimeout, ["unknown", "broker_timeout"]],
  // The broker has the message in memory but did not see it on disk, or at its replica, in time.
  [code.masterPersistenceTimeout, ["unknown", "flush_timeout"]],
  [code.slavePersistenceTimeout, ["unknown", "replica_timeout"]],
  [code.haNotAvailable, ["unknown", "replica_missing"]],
]);

/** What brokers write before "broker busy" and "system busy" when they refuse work they have not begun. */
const busyRemark = /\[(TIMEOUT_CLEAN_QUEUE|PC_SYNCHRONIZED|PCBUSY_CLEAN_QUEUE|OVERLOAD|REJECTREQUEST)\]|flow control/i;
const timeoutRemark = /timeout|timed out/i;
const illegalRemark = /message is illegal|(body|properties) size (is illegal|exceeded)|length limit/i;

const refinedInternal = (text: string): Row => {
  if (busyRemark.test(text)) return ["throttled", "broker_busy"];
  if (illegalRemark.test(text)) return ["permanent", "message_illegal"];
  if (timeoutRemark.test(text)) return ["unknown", "broker_timeout"];
  return ["transient", "broker_error"];
};

const byCode = (proxyCode: number, text: string): Row => {
  const row = byProxyCode.get(proxyCode);
  if (row !== undefined) return row;
  if (proxyCode === code.messagePropertyConflictWithType) {
    // A proxy that finds no route has no type to compare with either, and says this before it says "not found".
    return text.includes("expected type is UNSPECIFIED")
      ? ["transient", "topic_route_missing"]
      : ["permanent", "topic_type_mismatch"];
  }
  if (proxyCode === code.internalServerError || proxyCode === code.internalError) return refinedInternal(text);
  // Codes of later versions: by their hundreds, and never permanent.
  if (proxyCode >= 42_900 && proxyCode < 43_000) return ["throttled", "broker_throttling"];
  if (proxyCode >= 40_000 && proxyCode < 50_000) return ["transient", "broker_refused"];
  return ["unknown", "broker_error"];
};

const detailCharsMax = 300; // remarks can carry a Java stack

const failure = ([failureClass, name]: Row, detail: string): SendFailure => ({
  class: failureClass,
  code: name,
  detail: detail.length > detailCharsMax ? `${detail.slice(0, detailCharsMax)}…` : detail,
});

/** The proxy answered, and not with OK. */
export const fromProxy = (proxyCode: number, text: string): SendFailure =>
  failure(byCode(proxyCode, text), `RocketMQ answered ${proxyCode}: ${text}`);

/** gRPC status codes whose meaning is that the server did not take the call up. */
const refusedByServer: ReadonlyMap<number, Row> = new Map<number, Row>([
  [7, ["transient", "not_permitted"]],
  [8, ["transient", "proxy_exhausted"]],
  [12, ["transient", "not_a_proxy"]],
  [16, ["transient", "not_authenticated"]],
]);

/** There was no answer. */
export const fromTransport = ({ code: grpcCode, reachedProxy, detail }: TransportFailure): SendFailure => {
  if (!reachedProxy) return failure(["transient", "broker_unavailable"], detail);
  const row = refusedByServer.get(grpcCode);
  if (row !== undefined) return failure(row, detail);
  if (grpcCode === timedOut) return failure(["unknown", "send_timeout"], detail);
  return failure(["unknown", grpcCode === unreadable ? "answer_unreadable" : "connection_lost"], detail);
};

/** These say something about the topic, not about one message: the whole batch shares the verdict. */
const ofTheTopic: ReadonlySet<string> = new Set(["topic_type_mismatch", "illegal_topic"]);

/** True when a batch failed because of a message in it, so that the others deserve to be sent without it. */
export const blamesOneMessage = ({ class: failureClass, code: name }: SendFailure): boolean =>
  failureClass === "permanent" && !ofTheTopic.has(name);
