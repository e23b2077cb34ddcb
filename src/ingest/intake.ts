import type { DelayStore, OnConflict, ScheduleItem, ScheduleResult, StoredMessage } from "../delay/delay-store.port.ts";
import { nearWindowMs, wakeMarginMs } from "../delay/near-window.port.ts";
import { bayOf, parkedAtMs, parkedMaxMs } from "../message/bay.ts";
import { EscapementError, errorTable, isEscapementError } from "../message/errors.ts";
import { idBytes, idIntoBytes, laneOf, type MessageId, shardOf } from "../message/id.ts";
import type { DelayedMessage } from "../message/message.ts";
import { retryProperty } from "../message/retry-properties.ts";
import { type EpochMs, epochMs, formatInstant } from "../message/time.ts";
import { decodeEnvelope } from "../retry/envelope-codec.ts";
import type { Clock } from "../runtime/clock.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Random } from "../runtime/random.ts";
import type { BatchItemReply, MessageDetails, MessageReply } from "../wire/http.ts";
import { problemOf } from "../wire/problem.ts";
import { type Admitted, admitRef, admitReschedule, admitSchedule } from "./admit.ts";
import type { GroupCommit } from "./group-commit.ts";
import type { Intake, MessageRef } from "./intake.port.ts";
import type { TopicGate } from "./topic-gate.ts";

/**
 * The use cases of the way in: check, ask whether the topic exists, store, tell the near window. Nothing is stored
 * before everything was checked, and nothing is answered before it is stored.
 */
export type IntakeOptions = {
  readonly store: DelayStore;
  readonly commit: GroupCommit;
  readonly topics: TopicGate;
  readonly clock: Clock;
  readonly random: Random;
  readonly window: LocalWindow;
  /** Why nothing may be stored at the moment; undefined when all is well. */
  readonly storeProblem: () => string | undefined;
  /** True once this process is stopping. */
  readonly stopping: () => boolean;
  /** Topics that this service reads itself. */
  readonly ownTopics: ReadonlySet<string>;
};

/** The near window of this process, for messages whose shard it owns. */
export type LocalWindow = {
  owns(shard: number): boolean;
  offer(id: Buffer, offset: number, lane: number, shard: number, dueMs: number): boolean;
};

export class StoreIntake implements Intake {
  readonly #options: IntakeOptions;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  async schedule(request: unknown, tenant: string): Promise<MessageReply> {
    this.#assertOpen();
    const admitted = this.#admit(request, tenant);
    const result = await this.accept(admitted);
    return replyOf(admitted.message, admitted.onConflict, result, this.#options.clock.nowMs());
  }

  async scheduleBatch(requests: readonly unknown[], tenant: string, firstIndex = 0): Promise<BatchItemReply[]> {
    this.#assertOpen();
    return Promise.all(
      requests.map(async (request, i): Promise<BatchItemReply> => {
        const index = firstIndex + i;
        try {
          const admitted = this.#admit(request, tenant);
          const result = await this.accept(admitted);
          return {
            index,
            message: replyOf(admitted.message, admitted.onConflict, result, this.#options.clock.nowMs()),
          };
        } catch (error) {
          return { index, error: problemOf(knownError(error)) };
        }
      }),
    );
  }

  /** Stores what was admitted by any door; resolves when it is durable. */
  async accept({ message, onConflict, waitForTopic }: Admitted): Promise<ScheduleResult> {
    const { store, commit, topics, window, clock } = this.#options;
    const check = topics.check(message.topic, message.messageGroup !== undefined, waitForTopic);
    if (check !== undefined) await check;
    commit.assertRoom(1, message.body.length);
    const shard = shardOf(message.id, store.shardCount);
    const local = window.owns(shard);
    const item: ScheduleItem = {
      message,
      ...(onConflict === undefined ? undefined : { onConflict }),
      ...(local ? undefined : { wakeUntilMs: this.#wakeUntil() }),
    };
    const result = await commit.add(item);
    if (local && (result.outcome === "scheduled" || result.outcome === "replaced")) {
      this.#offer(message.id, laneOf(message.tenant, message.topic), shard, message.deliverAtMs, clock.nowMs());
    }
    reach("before-reply");
    return result;
  }

  async cancel(ref: MessageRef, tenant: string): Promise<MessageReply> {
    this.#assertOpen();
    const { store, clock } = this.#options;
    const id = admitRef(ref, tenant);
    const [result] = await store.cancel(shardOf(id, store.shardCount), [id], clock.nowMs());
    if (result!.outcome === "not_found") throw notFound();
    if (result!.outcome === "too_late") throw tooLate(result!.state!, "canceled");
    return changed(id, result!, clock.nowMs());
  }

  async reschedule(ref: MessageRef, request: unknown, tenant: string): Promise<MessageReply> {
    this.#assertOpen();
    const { store, clock, window } = this.#options;
    const id = admitRef(ref, tenant);
    const change = admitReschedule(request, { nowMs: clock.nowMs() });
    const shard = shardOf(id, store.shardCount);
    if (change.expireAtMs === undefined) await this.#assertStillInTime(shard, id, change.deliverAtMs);
    const local = window.owns(shard);
    const [result] = await store.reschedule(
      shard,
      [{ id, ...change, ...(local ? undefined : { wakeUntilMs: this.#wakeUntil() }) }],
      clock.nowMs(),
    );
    if (result!.outcome === "not_found") throw notFound();
    if (result!.outcome === "too_late") throw tooLate(result!.state!, "rescheduled");
    if (local && result!.waiting !== undefined) {
      this.#offer(id, result!.waiting.lane, shard, result!.waiting.dueMs, clock.nowMs());
    }
    return changed(id, result!, clock.nowMs());
  }

  async get(ref: MessageRef, tenant: string, options: { readonly body: boolean }): Promise<MessageDetails> {
    const { store, clock } = this.#options;
    const id = admitRef(ref, tenant);
    const [stored] = await store.get(shardOf(id, store.shardCount), [id], clock.nowMs());
    if (stored === undefined || (stored.message !== undefined && stored.message.tenant !== tenant)) throw notFound();
    return detailsOf(stored, options.body, clock.nowMs());
  }

  #admit(request: unknown, tenant: string): Admitted {
    const { clock, random, commit, ownTopics } = this.#options;
    return admitSchedule(request, {
      tenant,
      nowMs: clock.nowMs(),
      random,
      tail: commit.nextTail(),
      options: { ownTopics },
    });
  }

  #assertOpen(): void {
    const { stopping, storeProblem } = this.#options;
    if (stopping()) {
      throw new EscapementError("shutting_down", "this process is stopping; send to another one", {
        retryAfterMs: 1_000,
      });
    }
    const problem = storeProblem();
    if (problem !== undefined) throw new EscapementError("store_refusing", problem, { retryAfterMs: 5_000 });
  }

  /** An expiry that was set earlier and would now come first must not make the message vanish. */
  async #assertStillInTime(shard: number, id: MessageId, deliverAtMs: EpochMs): Promise<void> {
    const { store, clock } = this.#options;
    const [stored] = await store.get(shard, [id], clock.nowMs());
    const expireAtMs = stored?.message?.expireAtMs;
    if (stored?.state !== "scheduled" || expireAtMs === undefined || expireAtMs > deliverAtMs) return;
    throw new EscapementError(
      "expires_before_due",
      `the message expires at ${formatInstant(expireAtMs)}, before its new time; give expireAfter too, or null for never`,
      { field: "expireAfter" },
    );
  }

  #wakeUntil(): EpochMs {
    return epochMs(this.#options.clock.nowMs() + nearWindowMs + wakeMarginMs);
  }

  #offer(id: MessageId, lane: number, shard: number, dueMs: EpochMs, nowMs: EpochMs): void {
    if (dueMs > nowMs + nearWindowMs + wakeMarginMs) return;
    idIntoBytes(id, scratch);
    this.#options.window.offer(scratch, 0, lane, shard, dueMs);
  }
}

/** Copied by the near window before `offer` returns. */
const scratch = Buffer.alloc(idBytes);

const replyOf = (
  message: DelayedMessage,
  onConflict: OnConflict | undefined,
  result: ScheduleResult,
  nowMs: EpochMs,
): MessageReply => {
  if (result.outcome === "too_late") throw tooLate(result.state, "replaced");
  return {
    id: message.id,
    state: result.state,
    deliverAt: dueText(result.deliverAtMs, nowMs),
    attempt: result.attempt,
    deduplicated: onConflict !== undefined && result.outcome === "kept",
  };
};

type Changed = { readonly state?: StoredMessage["state"]; readonly deliverAtMs?: EpochMs; readonly attempt?: number };

const changed = (id: MessageId, result: Changed, nowMs: EpochMs): MessageReply => ({
  id,
  state: result.state!,
  deliverAt: dueText(result.deliverAtMs!, nowMs),
  attempt: result.attempt!,
  deduplicated: false,
});

/** A parked message has no time of its own: what is told is when it comes out at the latest. */
const dueText = (dueMs: EpochMs, nowMs: EpochMs): string =>
  formatInstant(bayOf(dueMs) === undefined ? dueMs : epochMs(parkedAtMs(dueMs, nowMs) + parkedMaxMs));

const parkedOf = ({ deliverAtMs, state, message }: StoredMessage, nowMs: EpochMs): Partial<MessageDetails> => {
  if (bayOf(deliverAtMs) === undefined || state !== "scheduled") return {};
  const text = message?.properties.get(retryProperty.envelope);
  const decoded = text === undefined ? undefined : decodeEnvelope(text);
  const key = decoded?.ok === true ? decoded.envelope.parkedFor : undefined;
  return {
    ...(key === undefined ? undefined : { parkedFor: key }),
    parkedSince: formatInstant(parkedAtMs(deliverAtMs, nowMs)),
  };
};

const detailsOf = (stored: StoredMessage, withBody: boolean, nowMs: EpochMs): MessageDetails => {
  const { id, state, deliverAtMs, attempt, endedAtMs, reason, message } = stored;
  return {
    id,
    state,
    deliverAt: dueText(deliverAtMs, nowMs),
    attempt,
    ...parkedOf(stored, nowMs),
    ...(endedAtMs === undefined ? undefined : { endedAt: formatInstant(endedAtMs) }),
    ...(reason === undefined ? undefined : { reason }),
    ...(message === undefined ? undefined : contentOf(message, withBody)),
  };
};

const contentOf = (message: DelayedMessage, withBody: boolean): Partial<MessageDetails> => ({
  ...(message.key === undefined ? undefined : { key: message.key }),
  topic: message.topic,
  ...(message.tag === undefined ? undefined : { tag: message.tag }),
  keys: [...message.keys],
  properties: Object.fromEntries(message.properties),
  ...(message.messageGroup === undefined ? undefined : { messageGroup: message.messageGroup }),
  acceptedAt: formatInstant(message.acceptedAtMs),
  ...(message.expireAtMs === undefined ? undefined : { expireAt: formatInstant(message.expireAtMs) }),
  bodyBytes: message.body.length,
  ...(withBody ? { bodyBase64: message.body.toString("base64") } : undefined),
});

const notFound = (): EscapementError =>
  new EscapementError(
    "not_found",
    "no message with this id or key; ended messages are known for the dedupe window only",
  );

const tooLate = (state: string, verb: string): EscapementError =>
  new EscapementError("too_late", `the message is ${state} and can no longer be ${verb}`);

/** What is not an EscapementError is a bug and says no more than that. */
const knownError = (error: unknown): EscapementError =>
  isEscapementError(error) ? error : new EscapementError("internal", errorTable.internal.title);
