import type { DelayedMessage } from "../message/message.ts";
import { retryProperty } from "../message/retry-properties.ts";
import { type EpochMs, formatInstant } from "../message/time.ts";
import type { RetryEnvelope } from "../retry/envelope.ts";
import type { DeadDetails, DeadFilterInput, DeadGroupReply, RedriveReply, RetryDetails } from "../wire/dead.ts";
import type { DeadMessage } from "./dead-message.ts";
import type { DeadFilter } from "./filter.ts";
import type { DeadGroup } from "./groups.ts";
import type { RedriveJob } from "./redrive-job.ts";

/** From what this room knows to what the HTTP contract says. Pure. */

export const detailsOf = (dead: DeadMessage, withBody: boolean): DeadDetails => ({
  id: dead.id,
  state: "dead",
  deliverAt: formatInstant(dead.message?.deliverAtMs ?? dead.diedAtMs),
  attempt: dead.envelope?.attempt ?? dead.message?.attempt ?? 0,
  endedAt: formatInstant(dead.diedAtMs),
  reason: dead.reason,
  ...(dead.message === undefined ? undefined : contentOf(dead.message, withBody)),
  ...(dead.envelope === undefined ? undefined : { retry: retryOf(dead.envelope) }),
});

const contentOf = (message: DelayedMessage, withBody: boolean): Partial<DeadDetails> => ({
  ...(message.key === undefined ? undefined : { key: message.key }),
  topic: message.topic,
  ...(message.tag === undefined ? undefined : { tag: message.tag }),
  keys: [...message.keys],
  // The envelope is told in words.
  properties: Object.fromEntries([...message.properties].filter(([name]) => name !== retryProperty.envelope)),
  ...(message.messageGroup === undefined ? undefined : { messageGroup: message.messageGroup }),
  acceptedAt: formatInstant(message.acceptedAtMs),
  bodyBytes: message.body.length,
  ...(withBody ? { bodyBase64: message.body.toString("base64") } : undefined),
});

const retryOf = (envelope: RetryEnvelope): RetryDetails => ({
  group: envelope.group,
  originTopic: envelope.originTopic,
  originId: envelope.originId,
  originBornAt: formatInstant(envelope.originBornAtMs),
  attempts: envelope.attempt,
  crashes: envelope.crashes,
  ...(envelope.firstFailedAtMs === undefined ? undefined : { firstFailedAt: formatInstant(envelope.firstFailedAtMs) }),
  policy: envelope.policy,
  replays: envelope.replays,
  history: envelope.history.map(({ atMs, class: failureClass, ...rest }) => ({
    attempt: rest.attempt,
    at: formatInstant(atMs),
    class: failureClass,
    code: rest.code,
    fingerprint: rest.fingerprint,
    text: rest.text,
  })),
});

export const groupReplyOf = ({ group, fingerprint, firstMs, lastMs, ...rest }: DeadGroup): DeadGroupReply => ({
  topic: rest.topic,
  ...(group === undefined ? undefined : { group }),
  code: rest.code,
  ...(fingerprint === undefined ? undefined : { fingerprint }),
  count: rest.count,
  firstAt: formatInstant(firstMs),
  lastAt: formatInstant(lastMs),
  sample: rest.sample,
});

export const filterInputOf = ({ from, until, ids, ...rest }: DeadFilter): DeadFilterInput => ({
  ...rest,
  ...timeOf("from", from),
  ...timeOf("until", until),
  ...(ids === undefined ? undefined : { ids: [...ids] }),
});

const timeOf = (name: "from" | "until", instant: EpochMs | undefined): object =>
  instant === undefined ? {} : { [name]: formatInstant(instant) };

export const redriveReplyOf = (job: RedriveJob): RedriveReply => {
  const { plan, places, idsDone, note } = job;
  const { ids } = plan.filter;
  return {
    id: job.id,
    state: job.state,
    since: formatInstant(job.sinceMs),
    ...(note === undefined ? undefined : { note }),
    by: job.by,
    reason: job.reason,
    createdAt: formatInstant(job.createdAtMs),
    filter: filterInputOf(plan.filter),
    rate: plan.pace.perSec,
    canary: plan.canary,
    stopAbove: plan.stopAbovePercent,
    edited: plan.edit !== undefined,
    counts: { ...job.counts },
    scanned: job.scanned,
    selected: ids === undefined ? places.every((place) => place === null) : idsDone >= ids.length,
  };
};
