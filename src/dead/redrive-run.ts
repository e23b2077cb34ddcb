import type { DelayStore, ReviveItem, StoredMessage } from "../delay/delay-store.port.ts";
import { scheduleBytesMax, scheduleItemsMax } from "../delay/delay-store.port.ts";
import { nearWindowMs, wakeMarginMs } from "../delay/near-window.port.ts";
import type { DocumentStore } from "../documents/document-store.port.ts";
import { idToBytes, laneOf, type MessageId, shardOf } from "../message/id.ts";
import type { DelayedMessage } from "../message/message.ts";
import { type EpochMs, epochMs } from "../message/time.ts";
import type { Clock } from "../runtime/clock.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Log } from "../runtime/log.ts";
import type { RedriveState } from "../wire/dead.ts";
import { auditOnce } from "./audit.ts";
import { type DeadMessage, deadMessageOf } from "./dead-message.ts";
import { offsetMs } from "./pace.ts";
import {
  count,
  decodePortion,
  encodePortion,
  follow,
  isFinal,
  noCounts,
  type OutcomeCode,
  type Portion,
  portionMessagesMax,
  portionName,
  tokenText,
} from "./portion.ts";
import { kinds, parseJob } from "./redrive-documents.ts";
import { isHalted, judge, judgeCanary, moved, RecentOutcomes, type RedriveJob } from "./redrive-job.ts";
import { readReports } from "./redrive-reports.ts";
import { lastTokenOf, revivalOf } from "./revival.ts";
import { Selection } from "./selection.ts";

/**
 * One redrive in the hands of the process that owns it. Each step does a bounded piece: brings back what is due soon,
 * hears what became of the rest, decides whether to go on, and writes down how far it has come.
 *
 * It does not wait for the moment of each message: it brings messages back a second ahead, each due at its own
 * millisecond, and the store that this whole product is about lets them go on time.
 *
 * What a crash leaves open is closed in `open`. A portion is written before any of it is brought back, and the store
 * brings back a death only once: whatever was done and not written down is found by looking, and never done again.
 * Any failure ends the run; who opens it again begins from what is written.
 */
export type RunParts = {
  readonly store: DelayStore;
  readonly documents: DocumentStore;
  readonly clock: Clock;
  readonly log: Log;
  /** This process. */
  readonly node: string;
  readonly ownTopics: ReadonlySet<string>;
  readonly window: NearOffer;
};

/** The near window of this process, for messages whose shard it owns. */
export type NearOffer = {
  owns(shard: number): boolean;
  offer(id: Buffer, offset: number, lane: number, shard: number, dueMs: number): boolean;
};

/** How far ahead messages are brought back, and so how many may still go after a pause: at most so much later. */
const aheadMs = 1_500;
/** Before the first one: the first portion has to be written and brought back until then. */
const leadMs = 300;
/** Behind by more than this, the job goes on from now instead of catching up in a burst. */
const lateMaxMs = 250;
/** Renewed with every save, so a process may be silent for a while before another takes its place. */
export const runLeaseMs = 10_000;
const saveEveryMs = 1_000;
const stepMs = 100;
const pollEveryMs = 500;
const pollAgainMs = 2_000;
const pollIdsMax = 4_000;
/** Bodies of one portion in memory. */
const portionBytesMax = 16_000_000;
/** Outcomes that are judged together. */
const recentMax = 200;
/** As many portions as one page can have been spread over, and more. */
const passedPortions = 400;

/** Somebody else is at this job now. */
export class RunLost extends Error {}

type Held = {
  readonly portion: Portion;
  readonly after: unknown;
  revision: number;
  isDirty: boolean;
  pollAtMs: number;
};

export class RedriveRun {
  readonly #parts: RunParts;
  readonly #held = new Map<number, Held>();
  readonly #passed = new Set<MessageId>();
  readonly #recent: { outcomes: RecentOutcomes };
  #job: RedriveJob;
  #revision: number;
  #selection: Selection;
  #pace: { anchorMs: number; gone: number } | undefined;
  #savedAtMs = Number.NEGATIVE_INFINITY;
  #polledAtMs = Number.NEGATIVE_INFINITY;

  /** Takes the job, which is free or ours, and closes what its last owner left open. Undefined: somebody else was quicker. */
  static async open(parts: RunParts, kept: { job: RedriveJob; revision: number }): Promise<RedriveRun | undefined> {
    const { documents, clock, node } = parts;
    const job = { ...kept.job, lease: { owner: node, untilMs: epochMs(clock.nowMs() + runLeaseMs) } };
    const taken = await documents.write(kinds.job, job.id, JSON.stringify(job), kept.revision);
    if (taken.outcome !== "written") return undefined;
    const run = new RedriveRun(parts, job, taken.revision);
    await run.#load();
    return run;
  }

  private constructor(parts: RunParts, job: RedriveJob, revision: number) {
    this.#parts = parts;
    this.#job = job;
    this.#revision = revision;
    this.#recent = { outcomes: new RecentOutcomes(recentMax) };
    this.#selection = new Selection(parts.store, job);
  }

  get job(): RedriveJob {
    return this.#job;
  }

  /** No outcome will be waited for any more. */
  get isDone(): boolean {
    const { state, sinceMs, plan } = this.#job;
    if (state === "finished") return true;
    const isHeard = this.#held.size === 0 || this.#parts.clock.nowMs() - sinceMs >= plan.outcomeWaitMs;
    return isHalted(state) && isHeard;
  }

  /** One bounded piece; answers when it wants to go on. Throws {@link RunLost}, and what the stores throw. */
  async step(): Promise<number> {
    const nowMs = this.#parts.clock.nowMs();
    if (nowMs - this.#savedAtMs >= saveEveryMs) {
      await this.#hear();
      await this.save();
    }
    if (nowMs - this.#polledAtMs >= pollEveryMs) {
      this.#polledAtMs = nowMs;
      await this.#poll(nowMs);
    }
    const wait = await this.#go();
    if (this.#job.state === "finished") await this.save();
    return wait;
  }

  // --- the way of a job --------------------------------------------------------------------------------------------

  async #go(): Promise<number> {
    const { state, plan, counts } = this.#job;
    const nowMs = this.#parts.clock.nowMs();
    if (state === "canary") {
      const wait = await this.#send(plan.canary - counts.sent);
      if (this.#selection.isThrough || this.#job.counts.sent >= plan.canary) this.#become("waiting");
      return wait;
    }
    if (state === "waiting") {
      const verdict = judgeCanary(this.#job, nowMs);
      if (verdict.go === "stop") this.#become("stopped", verdict.why);
      if (verdict.go === "on") this.#become(this.#selection.isThrough ? "settling" : "running");
      return stepMs;
    }
    if (state === "running") {
      const verdict = judge(plan, this.#recent.outcomes);
      if (verdict.go === "stop") this.#become("stopped", verdict.why);
      else if (this.#selection.isThrough) this.#become("settling");
      else return this.#send(portionMessagesMax);
    }
    if (state === "settling") {
      const isOverdue = nowMs - this.#job.sinceMs >= plan.outcomeWaitMs;
      if (this.#held.size === 0 || isOverdue) this.#become("finished");
    }
    return stepMs;
  }

  #become(state: RedriveState, note?: string): void {
    const { log, clock } = this.#parts;
    const { id, counts } = this.#job;
    this.#job = moved(this.#job, state, clock.nowMs(), note);
    this.#pace = undefined;
    this.#recent.outcomes = new RecentOutcomes(recentMax);
    this.#savedAtMs = Number.NEGATIVE_INFINITY;
    log.info({ redrive: id, state, ...counts, ...(note === undefined ? {} : { note }) }, "redrive");
  }

  /** Brings back those that are due within the time ahead, at most `most`. */
  async #send(most: number): Promise<number> {
    const { clock, store, documents, ownTopics } = this.#parts;
    const { id: job, plan } = this.#job;
    const nowMs = clock.nowMs();
    this.#pace ??= { anchorMs: nowMs + leadMs, gone: 0 };
    const pace = this.#pace;
    const lateMs = nowMs - (pace.anchorMs + offsetMs(plan.pace, pace.gone));
    if (lateMs > lateMaxMs) pace.anchorMs += lateMs;
    const dueOf = (i: number): number => pace.anchorMs + offsetMs(plan.pace, pace.gone + i);
    let room = 0;
    while (room < Math.min(most, portionMessagesMax) && dueOf(room) <= nowMs + aheadMs) room++;
    if (room === 0) return Math.min(Math.max(1, dueOf(0) - aheadMs - nowMs), stepMs);

    const selected = await this.#selection.next(room, portionBytesMax, nowMs);
    const ours = selected.filter((dead) => !this.#passed.has(dead.id) && !this.#isOurOwn(dead));
    const after = this.#selection.position;
    if (ours.length === 0) {
      this.#job = { ...this.#job, ...after };
      return 0;
    }
    const number = this.#job.portions;
    let going = 0;
    const items: { item: ReviveItem; index: number }[] = [];
    const codes: OutcomeCode[] = [];
    const isConsumers: boolean[] = [];
    for (const [index, dead] of ours.entries()) {
      const token = tokenText({ job, portion: number, index });
      const dueMs = epochMs(Math.max(nowMs, Math.round(dueOf(going))));
      const revival = revivalOf(dead, plan, token, ownTopics, nowMs, dueMs);
      if ("skip" in revival) {
        codes.push(revival.skip);
        isConsumers.push(false);
        continue;
      }
      going++;
      codes.push("intended");
      isConsumers.push(revival.isConsumers);
      items.push({ item: { message: revival.message, diedAtMs: dead.diedAtMs }, index });
    }
    const portion: Portion = {
      number,
      ids: ours.map(({ id }) => id),
      diedAtMs: ours.map(({ diedAtMs }) => diedAtMs),
      isConsumers,
      codes,
    };
    const written = await documents.write(kinds.portion, portionName(job, number), encodePortion(portion, after), 0);
    if (written.outcome !== "written") throw new RunLost(`portion ${number} of ${job} is somebody else's`);
    const held: Held = { portion, after, revision: written.revision, isDirty: false, pollAtMs: 0 };
    this.#hold(held);
    this.#job = { ...this.#job, ...after, portions: number + 1 };
    for (const code of codes) count(this.#job.counts, code, 1);
    reach("redrive-intended");
    await this.#bringBack(store, held, items);
    reach("redrive-revived");
    pace.gone += going;
    held.pollAtMs = nowMs + aheadMs;
    // More may be due within the time ahead.
    return items.length === 0 || room === portionMessagesMax ? 0 : stepMs;
  }

  async #bringBack(
    store: DelayStore,
    held: Held,
    items: readonly { item: ReviveItem; index: number }[],
  ): Promise<void> {
    const byShard = Map.groupBy(items, ({ item }) => shardOf(item.message.id, store.shardCount));
    const calls = [...byShard].flatMap(([shard, some]) => callsOf(some).map((call) => ({ shard, call })));
    await Promise.all(
      calls.map(async ({ shard, call }) => {
        const revived = await this.#revive(
          shard,
          call.map(({ item }) => item),
        );
        for (const [i, { index }] of call.entries()) this.#note(held, index, revived[i] ? "sent" : "not-dead");
      }),
    );
  }

  async #revive(shard: number, items: readonly ReviveItem[]): Promise<boolean[]> {
    const { store, window, clock } = this.#parts;
    const nowMs = clock.nowMs();
    const soonMs = epochMs(nowMs + nearWindowMs + wakeMarginMs);
    const isLocal = window.owns(shard);
    const revived = await store.revive(
      shard,
      isLocal ? items : items.map((item) => ({ ...item, wakeUntilMs: soonMs })),
      nowMs,
    );
    if (!isLocal) return revived;
    for (const [i, { message }] of items.entries()) {
      if (!revived[i] || message.deliverAtMs > soonMs) continue;
      window.offer(idToBytes(message.id), 0, laneOf(message.tenant, message.topic), shard, message.deliverAtMs);
    }
    return revived;
  }

  /** Brought back by this very job and dead again, though a clock says that it died before the job began. */
  #isOurOwn(dead: DeadMessage): boolean {
    return lastTokenOf(dead)?.startsWith(`${this.#job.id}.`) === true;
  }

  // --- what becomes of them ----------------------------------------------------------------------------------------

  /** Looks at what was sent and may have left the store by now. */
  async #poll(nowMs: EpochMs): Promise<void> {
    let room = pollIdsMax;
    for (const held of this.#held.values()) {
      if (room <= 0) return;
      if (held.pollAtMs > nowMs) continue;
      held.pollAtMs = nowMs + pollAgainMs;
      const waiting = [...held.portion.codes.keys()].filter((i) => held.portion.codes[i] === "sent");
      room -= waiting.length;
      const found = await this.#get(waiting.map((i) => held.portion.ids[i]!));
      for (const [j, index] of waiting.entries()) {
        const code = codeOf(found[j], held.portion.isConsumers[index]!);
        if (code !== undefined) this.#note(held, index, code);
      }
    }
  }

  /** Hears what other rooms and processes were told. */
  async #hear(): Promise<void> {
    const { documents } = this.#parts;
    const { reports, forget } = await readReports(documents, this.#job.id);
    for (const { portion, index, code } of reports) {
      const held = this.#held.get(portion);
      if (held !== undefined && index < held.portion.codes.length) this.#note(held, index, code);
    }
    await this.#flush();
    await forget();
  }

  #note(held: Held, index: number, to: OutcomeCode): void {
    const { codes } = held.portion;
    const from = codes[index]!;
    const code = follow(from, to);
    if (code === from) return;
    codes[index] = code;
    held.isDirty = true;
    count(this.#job.counts, from, -1);
    count(this.#job.counts, code, 1);
    const isFirst = from !== "failed";
    if (isFirst && code === "succeeded") this.#recent.outcomes.add(false);
    if (isFirst && (code === "failed" || code === "dead-again")) this.#recent.outcomes.add(true);
  }

  async #get(ids: readonly MessageId[]): Promise<(StoredMessage | undefined)[]> {
    const { store, clock } = this.#parts;
    const found = new Map<MessageId, StoredMessage | undefined>();
    const byShard = Map.groupBy(ids, (id) => shardOf(id, store.shardCount));
    await Promise.all(
      [...byShard].map(async ([shard, some]) => {
        const stored = await store.get(shard, some, clock.nowMs());
        for (const [i, id] of some.entries()) found.set(id, stored[i]);
      }),
    );
    return ids.map((id) => found.get(id));
  }

  // --- what is written down ------------------------------------------------------------------------------------------

  /** Writes how far it is, and hears of commands. */
  async save(): Promise<void> {
    const { documents, clock, node } = this.#parts;
    await this.#flush();
    for (;;) {
      const lease = { owner: node, untilMs: epochMs(clock.nowMs() + runLeaseMs) };
      const body = JSON.stringify({ ...this.#job, lease });
      const written = await documents.write(kinds.job, this.#job.id, body, this.#revision);
      if (written.outcome === "written") {
        this.#revision = written.revision;
        this.#savedAtMs = clock.nowMs();
        return this.#tellStop();
      }
      if (written.current === undefined) throw new RunLost(`${this.#job.id} was removed`);
      const theirs = parseJob(written.current.body);
      if (theirs.lease?.owner !== node) throw new RunLost(`${this.#job.id} is at ${theirs.lease?.owner}`);
      this.#revision = written.current.revision;
      const wasHalted = isHalted(this.#job.state);
      this.#obey(theirs);
      if (wasHalted) await this.#closeAll();
    }
  }

  /**
   * That it stopped itself goes into the audit, once: not before the job's document says so, because then another
   * process might have the job and never come to stop it. Who dies in between leaves `untoldStop` in the document, which
   * a command keeps; the job is still open, so somebody takes it, and comes by here with its first save. Who dies right
   * after says it once more: the same instant and job are the same entry.
   */
  async #tellStop(): Promise<void> {
    const { untoldStop, ...told } = this.#job;
    if (untoldStop === undefined) return;
    reach("redrive-stopped");
    const { atMs, why } = untoldStop;
    const entry = { action: "stop", by: "escapement", reason: why, what: "", redrive: told.id };
    await auditOnce(this.#parts.documents, atMs, told.id, entry);
    this.#job = told;
  }

  /** Gives the job up, so that another may take it at once. */
  async release(): Promise<void> {
    await this.save();
    const { lease: _over, ...free } = this.#job;
    await this.#parts.documents.write(kinds.job, free.id, JSON.stringify(free), this.#revision);
  }

  /** Only a command changes a job that is ours; what it says of the state holds, and of progress we know more. */
  #obey({ state, sinceMs, note, resumeTo, untoldStop }: RedriveJob): void {
    // A stop of ours that was not written down is none: the command was first.
    const { note: _note, resumeTo: _to, untoldStop: _stop, ...kept } = this.#job;
    if (state !== this.#job.state) {
      this.#pace = undefined;
      this.#recent.outcomes = new RecentOutcomes(recentMax);
    }
    this.#job = {
      ...kept,
      state,
      sinceMs,
      ...(note === undefined ? {} : { note }),
      ...(resumeTo === undefined ? {} : { resumeTo }),
      ...(untoldStop === undefined ? {} : { untoldStop }),
    };
  }

  #hold(held: Held): void {
    this.#held.set(held.portion.number, held);
  }

  async #flush(): Promise<void> {
    const { documents } = this.#parts;
    for (const held of this.#held.values()) {
      if (held.isDirty) {
        const name = portionName(this.#job.id, held.portion.number);
        const written = await documents.write(
          kinds.portion,
          name,
          encodePortion(held.portion, held.after),
          held.revision,
        );
        if (written.outcome !== "written") throw new RunLost(`${name} is somebody else's`);
        held.revision = written.revision;
        held.isDirty = false;
      }
      if (held.portion.codes.every(isFinal)) this.#held.delete(held.portion.number);
    }
  }

  // --- after another owner, or a failure of our own --------------------------------------------------------------------

  async #load(): Promise<void> {
    const { documents } = this.#parts;
    const counts = noCounts();
    const passed: MessageId[][] = [];
    let [after, last]: [string, Held | undefined] = ["", undefined];
    for (;;) {
      const page = await documents.list(kinds.portion, { prefix: `${this.#job.id}/`, after, limit: 20 });
      for (const { name, body, revision } of page) {
        const number = Number(name.slice(name.indexOf("/") + 1));
        const { portion, after: position } = decodePortion(number, body);
        last = { portion, after: position, revision, isDirty: false, pollAtMs: 0 };
        for (const code of portion.codes) count(counts, code, 1);
        passed.push(portion.ids.filter((_, i) => !["sent", "intended"].includes(portion.codes[i]!)));
        if (passed.length > passedPortions) passed.shift();
        if (!portion.codes.every(isFinal)) this.#hold(last);
      }
      if (page.length === 0) break;
      after = page.at(-1)!.name;
    }
    for (const id of passed.flat()) this.#passed.add(id);
    const position = (last?.after ?? {}) as Partial<RedriveJob>;
    this.#job = { ...this.#job, ...position, counts, portions: last === undefined ? 0 : last.portion.number + 1 };
    this.#selection = new Selection(this.#parts.store, this.#job);
    await this.#closeAll();
  }

  /** A command may have come since: who is paused or canceled brings back nothing, not even what he meant to. */
  async #closeAll(): Promise<void> {
    if (isHalted(this.#job.state)) return;
    for (const held of this.#held.values()) await this.#close(held);
  }

  /** What was intended and is not known to have been done: looked at, and done where it was not. */
  async #close(held: Held): Promise<void> {
    const { store, clock, ownTopics } = this.#parts;
    const { ids, codes, diedAtMs, number } = held.portion;
    const open = [...codes.keys()].filter((i) => codes[i] === "intended");
    if (open.length === 0) return;
    const found = await this.#get(open.map((i) => ids[i]!));
    const again: { item: ReviveItem; index: number }[] = [];
    const nowMs = clock.nowMs();
    for (const [j, index] of open.entries()) {
      const stored = found[j];
      const isUntouched = stored?.state === "dead" && stored.endedAtMs === diedAtMs[index];
      if (!isUntouched) {
        this.#note(held, index, wasBroughtBack(stored, this.#job.id) ? "sent" : "not-dead");
        continue;
      }
      const token = tokenText({ job: this.#job.id, portion: number, index });
      const revival = revivalOf(deadMessageOf(stored), this.#job.plan, token, ownTopics, nowMs, nowMs);
      if ("skip" in revival) this.#note(held, index, revival.skip);
      else again.push({ item: { message: revival.message, diedAtMs: stored.endedAtMs! }, index });
    }
    await this.#bringBack(store, held, again);
  }
}

/** Undefined while it is still on its way. */
const codeOf = (stored: StoredMessage | undefined, isConsumers: boolean): OutcomeCode | undefined => {
  switch (stored?.state) {
    case undefined:
      return "unknown";
    case "scheduled":
    case "claimed":
      return undefined;
    case "delivered":
      return isConsumers ? "delivered" : "succeeded";
    case "dead":
      return "dead-again";
    case "canceled":
    case "expired":
      return "canceled";
  }
};

/** By this job: what waits or died again says so itself, and what was delivered since it was intended was sent by us. */
const wasBroughtBack = (stored: StoredMessage | undefined, job: string): boolean => {
  if (stored?.state === "delivered") return true;
  if (stored?.message === undefined) return false;
  return lastTokenOf(deadMessageOf(stored))?.startsWith(`${job}.`) === true;
};

type Call = { item: ReviveItem; index: number }[];

/** As many calls as the store's limits ask for. */
const callsOf = (items: readonly { item: ReviveItem; index: number }[]): Call[] => {
  const calls: Call[] = [];
  let [current, bytes]: [Call, number] = [[], 0];
  for (const one of items) {
    const size = (one.item.message as DelayedMessage).body.length;
    if (current.length > 0 && (current.length >= scheduleItemsMax || bytes + size > scheduleBytesMax)) {
      calls.push(current);
      [current, bytes] = [[], 0];
    }
    current.push(one);
    bytes += size;
  }
  return current.length > 0 ? [...calls, current] : calls;
};
