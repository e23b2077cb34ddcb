import type { BrokerEntry, Got, Sent } from "./broker-entries.ts";
import { type ClockAhead, type Finding, mayBeEarlyMs } from "./verdict.ts";

/**
 * The judge of the embedded broker: from what its users saw to broken promises. Pure. What may follow a kill -9 and
 * nothing else: a delivery that is forgotten (the message comes again early, with the same attempt), a second copy of
 * what waited for its time or of a committed transaction, and a second dead letter.
 */
export type BrokerVerdict = {
  readonly sent: number;
  readonly stored: number;
  readonly received: number;
  readonly acknowledged: number;
  readonly deadLetters: number;
  readonly redelivered: number;
  /** Second copies, all of them explained by a kill, or there is a finding. */
  readonly duplicates: number;
  readonly findings: readonly Finding[];
};

/** All that is known of one message. */
type Story = {
  readonly sent: Sent;
  storedMs: number | undefined;
  recalledMs: number | undefined;
  readonly got: Got[];
  /** By offset. */
  readonly acked: Map<number, number>;
};

/** A receiver's clock reading may be late by this on a busy machine. */
const slackMs = 1_000;

export const brokerStories = (entries: readonly BrokerEntry[]): Map<number, Story> => {
  const stories = new Map<number, Story>();
  for (const entry of entries) {
    if (entry.event === "killed") continue;
    if (entry.event === "sent") {
      const fresh = { sent: entry, storedMs: undefined, recalledMs: undefined, got: [], acked: new Map() };
      stories.set(entry.serial, fresh);
      continue;
    }
    const story = stories.get(entry.serial);
    if (story === undefined) throw new Error(`message ${entry.serial} was never sent`);
    if (entry.event === "stored") story.storedMs = entry.atMs;
    else if (entry.event === "recalled") story.recalledMs = entry.atMs;
    else if (entry.event === "got") story.got.push(entry);
    // The first counts: one that comes again is acknowledged again.
    else if (!story.acked.has(entry.offset)) story.acked.set(entry.offset, entry.atMs);
  }
  return stories;
};

/**
 * Messages that something is still to happen to. One that was received and not acknowledged comes again within
 * `againWithinMs`, or its acknowledgement was done and only the answer lost.
 */
export const openMessages = (entries: readonly BrokerEntry[], nowMs: number, againWithinMs: number): number =>
  [...brokerStories(entries).values()].filter(({ sent, storedMs, recalledMs, got, acked }) => {
    const { kind } = sent;
    if (kind === "hopeless") return storedMs !== undefined && !got.some(({ isDeadLetter }) => isDeadLetter);
    const isGone = storedMs === undefined || kind === "rolled-back" || recalledMs !== undefined;
    if (got.length === 0) return !isGone;
    return got.some(({ offset, atMs }) => !acked.has(offset) && atMs > nowMs - againWithinMs);
  }).length;

export const judgeBroker = (
  entries: readonly BrokerEntry[],
  { invisibleMs, clockAhead }: { readonly invisibleMs: number; readonly clockAhead?: ClockAhead | undefined },
): BrokerVerdict => {
  const stories = [...brokerStories(entries).values()];
  const killsMs = entries.flatMap((entry) => (entry.event === "killed" ? [entry.atMs] : []));
  const killedBetween = (fromMs: number, untilMs: number): boolean =>
    killsMs.some((atMs) => atMs >= fromMs - slackMs && atMs <= untilMs);
  const findings: Finding[] = [];
  let duplicates = 0;
  let redelivered = 0;
  for (const { sent, storedMs, recalledMs, got, acked } of stories) {
    const { serial, kind } = sent;
    const found = (invariant: string, text: string): void => void findings.push({ invariant, serial, text });
    const own = got.filter(({ isDeadLetter }) => !isDeadLetter);
    const dead = got.filter(({ isDeadLetter }) => isDeadLetter);
    const isGone = kind === "rolled-back" || recalledMs !== undefined;

    if (storedMs !== undefined && !isGone && own.length === 0 && dead.length === 0)
      found("B1 nothing stored is lost", `${kind}, stored at ${storedMs}, never delivered`);
    if (storedMs !== undefined && kind === "hopeless" && dead.length === 0)
      found("B1 nothing stored is lost", "never acknowledged, and it is no dead letter");
    if (dead.length > 0 && acked.size > 0) found("B2 acknowledged is no dead letter", `${kind}, and it is both`);
    if (kind === "rolled-back" && got.length > 0) found("B3 rolled back is never delivered", `at ${got[0]!.atMs}`);
    if (recalledMs !== undefined && got.length > 0 && !killedBetween(sent.atMs, recalledMs))
      found("B3 recalled is never delivered", `recalled at ${recalledMs}, delivered at ${got[0]!.atMs}`);
    for (const { crc, atMs } of got) {
      if (crc !== sent.crc) found("B4 bytes are kept", "body or properties arrived changed");
      const soonestMs = sent.dueMs - mayBeEarlyMs(clockAhead, atMs);
      if (atMs < soonestMs) found("B5 none is early", `delivered ${sent.dueMs - atMs} ms before it was due`);
    }
    const copies = Map.groupBy(own, ({ offset }) => offset);
    if (copies.size > 1) {
      duplicates += copies.size - 1;
      const mayRepeat = kind === "delayed" || kind === "recalled" || kind === "committed";
      const [firstMs, lastMs] = [sent.atMs, own.at(-1)!.atMs];
      if (!mayRepeat || !killedBetween(firstMs, lastMs))
        found("B6 one copy", `${kind}, sent at ${firstMs}, lies at the offsets ${[...copies.keys()].join(", ")}`);
    }
    for (const [offset, deliveries] of copies) {
      const ackedMs = acked.get(offset);
      deliveries.forEach((delivery, i) => {
        if (ackedMs !== undefined && delivery.atMs > ackedMs)
          found("B7 acknowledged is done", `acknowledged at ${ackedMs}, delivered again at ${delivery.atMs}`);
        if (i === 0) return;
        redelivered++;
        const before = deliveries[i - 1]!;
        if (killedBetween(before.atMs, delivery.atMs)) return;
        const apartMs = delivery.atMs - before.atMs;
        if (apartMs < invisibleMs - slackMs)
          found("B8 invisible is invisible", `delivered twice within ${apartMs} ms, invisible for ${invisibleMs}`);
        if (delivery.attempt <= before.attempt)
          found("B9 attempts are counted", `attempt ${delivery.attempt} after attempt ${before.attempt}`);
      });
    }
  }
  findings.push(...brokenOrder(stories));
  const count = (is: (story: Story) => boolean): number => stories.filter(is).length;
  return {
    sent: stories.length,
    stored: count(({ storedMs }) => storedMs !== undefined),
    received: count(({ got }) => got.length > 0),
    acknowledged: count(({ acked }) => acked.size > 0),
    deadLetters: count(({ got }) => got.some(({ isDeadLetter }) => isDeadLetter)),
    redelivered,
    duplicates,
    findings,
  };
};

/** A group's messages were sent one after the other, so their first deliveries come in the order of the serials. */
const brokenOrder = (stories: readonly Story[]): Finding[] => {
  const groups = Map.groupBy(
    stories.filter(({ sent, storedMs, got }) => sent.group !== undefined && storedMs !== undefined && got.length > 0),
    ({ sent }) => sent.group!,
  );
  const findings: Finding[] = [];
  for (const [group, members] of groups) {
    members.sort((one, other) => one.sent.serial - other.sent.serial);
    for (let i = 1; i < members.length; i++) {
      const [earlier, later] = [members[i - 1]!, members[i]!];
      if (earlier.got[0]!.atMs <= later.got[0]!.atMs) continue;
      const text = `first delivered after message ${later.sent.serial} of ${group}, which was sent later`;
      findings.push({ invariant: "B10 groups keep their order", serial: earlier.sent.serial, text });
    }
  }
  return findings;
};
