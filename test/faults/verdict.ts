import type { Copy, Entry, Intent, Reply } from "./ledger.ts";

/**
 * The judges: pure functions from a ledger to findings. A finding is a broken promise with the serial of the message
 * it happened to; an empty list means that all invariants held that a ledger can show.
 *
 * Two clocks stand on a copy, the sender's and the receiver's. Both must be at or after the due time; they are the
 * same machine's unless a recipe shifts a server's clock, in which case only the receiver's counts.
 */
export type Window = {
  /** D1 to D7 of docs/semantics.md. */
  readonly name: string;
  /** The copy before the extra one was sent inside this interval. */
  readonly fromMs: number;
  readonly untilMs: number;
  readonly duplicatesMax: number;
};

export type Rules = {
  readonly windows: readonly Window[];
  /** False where a server's clock is shifted by the recipe. */
  readonly bornIsTrue: boolean;
  /** While a clock that there is nothing to hold against was ahead, what was due by it went out. */
  readonly clockAhead?: ClockAhead | undefined;
  /** Every fault of this run: the first begins, the last has healed. */
  readonly fault?: { readonly fromMs: number; readonly untilMs: number } | undefined;
};

export type ClockAhead = { readonly fromMs: number; readonly untilMs: number; readonly byMs: number };

/** By how much a copy that was received then may have been early. */
export const mayBeEarlyMs = (ahead: ClockAhead | undefined, receivedMs: number): number =>
  ahead !== undefined && receivedMs >= ahead.fromMs && receivedMs <= ahead.untilMs ? ahead.byMs : 0;

export type Finding = { readonly invariant: string; readonly serial?: number; readonly text: string };

export type Latenesses = {
  readonly count: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
};

export type Verdict = {
  readonly accepted: number;
  readonly unknown: number;
  readonly refused: number;
  readonly delivered: number;
  readonly canceled: number;
  readonly rescheduled: number;
  readonly tooLate: number;
  readonly duplicates: Readonly<Record<string, number>>;
  readonly lost: number;
  readonly early: number;
  /** Messages that waited or were under way when the fault began or while it lasted. */
  readonly inFault: number;
  /** Of the sending, as it stands on the copies; by the time of receiving where a server's clock is shifted. */
  readonly lateness: { readonly before: Latenesses; readonly during: Latenesses; readonly after: Latenesses };
  /** From the healing until the last message that was due by then had arrived. */
  readonly recoveryMs: number;
  readonly findings: readonly Finding[];
};

/** All that is known of one message. */
export type Story = {
  readonly intent: Intent;
  readonly replies: readonly Reply[];
  readonly accepted: Reply | undefined;
  readonly change:
    | { readonly verb: "cancel" | "reschedule"; readonly atMs: number; readonly dueMs: number | undefined }
    | undefined;
  readonly changed: { readonly outcome: string; readonly atMs: number } | undefined;
  /** One per message that the broker stored, in the order of sending. What RocketMQ delivered twice is one. */
  readonly copies: readonly Copy[];
};

export const storiesOf = (entries: readonly Entry[]): Map<number, Story> => {
  type Open = { -readonly [K in keyof Story]: Story[K] } & { replies: Reply[]; copies: Copy[] };
  const stories = new Map<number, Open>();
  for (const entry of entries) {
    if (entry.kind === "fault") continue;
    if (entry.kind === "intent") {
      const known = stories.get(entry.serial);
      if (known === undefined) {
        const fresh = {
          intent: entry,
          replies: [],
          accepted: undefined,
          change: undefined,
          changed: undefined,
          copies: [],
        };
        stories.set(entry.serial, fresh);
      }
      continue;
    }
    const story = stories.get(entry.serial);
    if (story === undefined)
      throw new Error(`the ledger speaks of message ${entry.serial}, which nobody wanted to send`);
    if (entry.kind === "reply") {
      story.replies.push(entry);
      if (entry.outcome === "accepted") story.accepted ??= entry;
    } else if (entry.kind === "change") {
      story.change = { verb: entry.verb, atMs: entry.atMs, dueMs: entry.dueMs };
    } else if (entry.kind === "changed") {
      story.changed = { outcome: entry.outcome, atMs: entry.atMs };
    } else if (!story.copies.some((copy) => copy.brokerMessageId === entry.brokerMessageId)) {
      story.copies.push(entry);
    }
  }
  for (const story of stories.values()) story.copies.sort((a, b) => a.bornMs - b.bornMs || a.receivedMs - b.receivedMs);
  return stories;
};

/** Accepted, and neither canceled nor seen yet. */
export const missing = (stories: ReadonlyMap<number, Story>): Story[] =>
  [...stories.values()].filter(
    ({ accepted, change, changed, copies }) =>
      accepted !== undefined &&
      copies.length === 0 &&
      !(change?.verb === "cancel" && (changed === undefined || ["done", "unknown"].includes(changed.outcome))),
  );

export const judge = (entries: readonly Entry[], rules: Rules): Verdict => {
  const stories = storiesOf(entries);
  const all = [...stories.values()];
  const findings: Finding[] = [];
  const found = (invariant: string, story: Story | undefined, text: string): void => {
    findings.push({ invariant, ...(story === undefined ? {} : { serial: story.intent.serial }), text });
  };
  const sentAt = (copy: Copy): number => (rules.bornIsTrue ? copy.bornMs : copy.receivedMs);

  const lost = missing(stories);
  for (const story of lost)
    found("I1 no accepted message is lost", story, `accepted at ${story.accepted!.atMs}, never delivered`);

  let early = 0;
  const duplicates: Record<string, number> = {};
  for (const story of all) {
    const { intent, change, changed, copies, replies } = story;
    // A reschedule that was perhaps or certainly done makes the earlier of the two times the limit.
    const dueMs = change?.dueMs === undefined ? intent.dueMs : Math.min(intent.dueMs, change.dueMs);
    for (const copy of copies) {
      const allowedMs = mayBeEarlyMs(rules.clockAhead, copy.receivedMs);
      const earlyByMs = dueMs - allowedMs - Math.min(sentAt(copy), copy.receivedMs);
      if (earlyByMs > 0) {
        early++;
        found("I2 none is early", story, `sent ${earlyByMs} ms before it was due`);
      }
      if (copy.crc !== intent.crc) found("I16 bytes are kept", story, "body or properties arrived changed");
      if (copy.topic !== intent.topic) found("I16 bytes are kept", story, `arrived on ${copy.topic}`);
    }
    copies.forEach((copy, i) => {
      if (i === 0) return;
      const before = sentAt(copies[i - 1]!);
      const window = rules.windows.find(({ fromMs, untilMs }) => before >= fromMs && before <= untilMs);
      const name = window?.name ?? "outside of all windows";
      duplicates[name] = (duplicates[name] ?? 0) + 1;
      if (window === undefined) {
        const apart = `${sentAt(copy) - before} ms apart, attempts ${copies[i - 1]!.attempt} and ${copy.attempt}`;
        found("I4 duplicates only in named windows", story, `copies sent at ${before} and ${sentAt(copy)}, ${apart}`);
      }
    });
    if (new Set(copies.map(({ id }) => id)).size > 1)
      found("I4 copies share their id", story, "copies with different ESC_ID");

    const inWindow = (copy: Copy): boolean =>
      rules.windows.some(({ fromMs, untilMs }) => sentAt(copy) >= fromMs && sentAt(copy) <= untilMs);
    if (change !== undefined && changed?.outcome === "done") {
      for (const copy of copies) {
        // A copy from before the change is a crash's leftover: its sending was never recorded, so the message still waited.
        const leftover = sentAt(copy) < changed.atMs && inWindow(copy);
        if (change.verb === "cancel" && !leftover) {
          found("I5 cancel is final", story, `canceled at ${changed.atMs}, sent at ${sentAt(copy)}`);
        }
        const soonestMs = (change.dueMs ?? 0) - mayBeEarlyMs(rules.clockAhead, copy.receivedMs);
        if (change.verb === "reschedule" && !leftover && sentAt(copy) < soonestMs) {
          found("I6 reschedule moves", story, `rescheduled to ${change.dueMs}, sent at ${sentAt(copy)}`);
        }
      }
    }
    if (story.accepted !== undefined && changed?.outcome === "not_found") {
      found(
        "P4 cancel and reschedule answer the truth",
        story,
        `an accepted message was not found by its ${change?.verb}`,
      );
    }
    const ids = new Set(replies.flatMap(({ outcome, id }) => (outcome === "accepted" && id !== undefined ? [id] : [])));
    if (ids.size > 1) found("I8 the same key is one message", story, `${ids.size} ids for one key`);
    for (const copy of copies) {
      if (ids.size === 1 && !ids.has(copy.id))
        found("I8 the same key is one message", story, "delivered under another id");
    }
    if (intent.hopeless && story.accepted !== undefined)
      found("P8 refusal is explicit", story, "accepted, but had to be refused");
    if (replies.length > 0 && replies.every(({ outcome }) => outcome === "refused") && copies.length > 0) {
      found("P8 refusal is explicit", story, `refused with ${replies.at(-1)!.code}, delivered all the same`);
    }
    for (const { code } of replies)
      if (code === "internal") found("P8 refusal is explicit", story, "answered with `internal`");
  }
  for (const { name, duplicatesMax } of rules.windows) {
    const count = duplicates[name] ?? 0;
    if (count > duplicatesMax)
      found("I4 duplicates only in named windows", undefined, `${count} in ${name}, at most ${duplicatesMax}`);
  }
  for (const broken of brokenOrder(all)) found("I7 groups keep their order", broken.story, broken.text);

  const delivered = all.filter(({ copies }) => copies.length > 0);
  const outcomes = (verb: string, outcome: string): number =>
    all.filter(({ change, changed }) => change?.verb === verb && changed?.outcome === outcome).length;
  return {
    accepted: all.filter(({ accepted }) => accepted !== undefined).length,
    unknown: all.filter(
      ({ accepted, replies }) => accepted === undefined && replies.some(({ outcome }) => outcome === "unknown"),
    ).length,
    refused: all.filter(({ replies }) => replies.length > 0 && replies.every(({ outcome }) => outcome === "refused"))
      .length,
    delivered: delivered.length,
    canceled: outcomes("cancel", "done"),
    rescheduled: outcomes("reschedule", "done"),
    tooLate: outcomes("cancel", "too_late") + outcomes("reschedule", "too_late"),
    duplicates,
    lost: lost.length,
    early,
    inFault: rules.fault === undefined ? 0 : delivered.filter((story) => spans(story, rules.fault!)).length,
    lateness: latenessAround(delivered, sentAt, rules.fault),
    recoveryMs: rules.fault === undefined ? 0 : recovery(delivered, rules.fault.untilMs),
    findings,
  };
};

/** The time that holds for a message at the end: its own, or the one it was moved to. */
const finalDueMs = ({ intent, change, changed }: Story): number =>
  change?.dueMs !== undefined && changed?.outcome === "done" ? change.dueMs : intent.dueMs;

/**
 * Within a group, whoever is due earlier goes first, provided it was accepted before the other became due. The
 * messages of one group lie in one queue, so their offsets tell the order in which the broker stored them.
 */
const brokenOrder = (stories: readonly Story[]): { story: Story; text: string }[] => {
  const groups = new Map<string, Story[]>();
  for (const story of stories) {
    const { group } = story.intent;
    if (group === undefined || story.copies.length === 0 || story.accepted === undefined || story.change !== undefined)
      continue;
    const members = groups.get(group);
    if (members === undefined) groups.set(group, [story]);
    else members.push(story);
  }
  const broken: { story: Story; text: string }[] = [];
  for (const members of groups.values()) {
    members.sort((a, b) => a.intent.dueMs - b.intent.dueMs);
    for (let i = 0; i + 1 < members.length; i++) {
      const [earlier, later] = [members[i]!, members[i + 1]!];
      if (earlier.intent.dueMs === later.intent.dueMs || earlier.accepted!.atMs >= later.intent.dueMs) continue;
      const [first, second] = [firstOffset(earlier), firstOffset(later)];
      if (first > second) {
        const text = `due ${earlier.intent.dueMs} at offset ${first}, behind message ${later.intent.serial}, due ${later.intent.dueMs} at offset ${second}`;
        broken.push({ story: earlier, text });
      }
    }
  }
  return broken;
};

const firstOffset = ({ copies }: Story): number => Math.min(...copies.map(({ offset }) => offset));

const spans = ({ intent, copies }: Story, { fromMs, untilMs }: { fromMs: number; untilMs: number }): boolean =>
  intent.atMs <= untilMs && copies.at(-1)!.receivedMs >= fromMs;

const latenessAround = (
  delivered: readonly Story[],
  sentAt: (copy: Copy) => number,
  fault: Rules["fault"],
): Verdict["lateness"] => {
  const late = (belongs: (dueMs: number) => boolean): Latenesses =>
    latenesses(
      delivered
        .filter((story) => belongs(finalDueMs(story)))
        // A message that was accepted after its due time is late by its own fault.
        .map((story) => sentAt(story.copies[0]!) - Math.max(finalDueMs(story), story.accepted?.atMs ?? 0)),
    );
  return {
    before: late((dueMs) => fault === undefined || dueMs < fault.fromMs),
    during: late((dueMs) => fault !== undefined && dueMs >= fault.fromMs && dueMs <= fault.untilMs),
    after: late((dueMs) => fault !== undefined && dueMs > fault.untilMs),
  };
};

export const latenesses = (values: readonly number[]): Latenesses => {
  const sorted = values.map((value) => Math.max(0, value)).sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return { count: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: sorted.at(-1) ?? 0 };
};

const recovery = (delivered: readonly Story[], healedMs: number): number => {
  let lastMs = healedMs;
  for (const story of delivered) {
    if (finalDueMs(story) <= healedMs) lastMs = Math.max(lastMs, story.copies[0]!.receivedMs);
  }
  return lastMs - healedMs;
};
