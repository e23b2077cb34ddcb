import { type AfterRun, hasClockTrouble, type Violated } from "./checks.ts";
import type { Content, MessageRecord, Send } from "./ledger.ts";
import { epochStartMs } from "./world.ts";

/** What left for the broker, send by send: never early, never after the end, never twice without a named reason. */

/** A timer, a rounding and a step between two events of one instant. */
const graceMs = 1.001;

export const checkSends = (run: AfterRun, violated: Violated): void => {
  for (const record of run.ledger.messages.values()) {
    record.sends.forEach((send, i) => {
      checkOne(run, record, send, violated);
      if (isPastItsLease(run, send)) return;
      const former = record.sends.slice(0, i).filter((other) => isSameLife(record, other, send));
      const last = former.at(-1);
      if (last !== undefined) checkNext(run, record, last, send, violated);
      const stored = former.findLast(({ storedMs }) => storedMs.length > 0);
      if (stored !== undefined) checkSecond(run, record, stored, send, violated);
    });
  }
};

/**
 * A store whose clock jumps ahead ends leases that their owners rightly think good: until they next hear from it, what
 * was claimed is sent, and by the new owner too.
 */
const isPastItsLease = ({ ledger, options }: AfterRun, { node, startedMs, epoch, storeEpoch }: Send): boolean =>
  epoch !== storeEpoch && ledger.hadTrouble(node, startedMs - options.leaseMs, startedMs, ["store clock"]);

const at = (ms: number): string => `${(ms / 1000).toFixed(4)} s`;

const checkOne = (run: AfterRun, record: MessageRecord, send: Send, violated: Violated): void => {
  const { id } = record;
  const { startedMs, node, epoch, attempt, deliverAtMs, refereeMs } = send;
  const claim = record.claims.findLast(
    (other) => other.node === node && other.epoch === epoch && other.attempt === attempt && other.atMs <= startedMs,
  );
  if (epoch === undefined || claim === undefined) {
    violated("P7 only what was claimed is sent", `${node.name} sent attempt ${attempt} at ${at(startedMs)}`, id);
    return;
  }
  const earlyMs = deliverAtMs - Math.floor(refereeMs);
  if (refereeMs === Number.NEGATIVE_INFINITY) {
    violated("I2 nothing is sent on a clock that is not trusted", `${node.name} at ${at(startedMs)}`, id);
  } else if (earlyMs > 0) {
    violated("I2 none is early", `${node.name} sent it ${earlyMs} ms early, at ${at(startedMs)}`, id);
  }
  const current = contentAt(record, claim.atMs);
  if (current === undefined || current.content !== send.content || current.deliverAtMs !== deliverAtMs) {
    const text = `sent ${send.content} due ${deliverAtMs}; when it was claimed it was ${current?.content} due ${current?.deliverAtMs}`;
    violated("I6 what is sent is what holds", text, id);
  }
  const expireAtMs = current?.expireAtMs;
  if (expireAtMs !== undefined && !hasClockTrouble(run) && startedMs + epochStartMs > expireAtMs + 25) {
    violated("not sent after its expiry", `at ${at(startedMs)}, it expired at ${at(expireAtMs - epochStartMs)}`, id);
  }
  if (isPastItsLease(run, send)) return;
  if (epoch !== send.storeEpoch) {
    const text = `${node.name} sent under epoch ${epoch} at ${at(startedMs)} when the store was at ${send.storeEpoch}`;
    violated("I9 one effective owner", text, id);
  }
  if (attempt > send.maxAttempts)
    violated("I10 attempts stay in their bounds", `${attempt} of ${send.maxAttempts}`, id);
  const delivered = record.settled.find(({ kind, atMs }) => kind === "delivered" && atMs < startedMs);
  if (delivered !== undefined) {
    violated("I10 nothing after success", `recorded at ${at(delivered.atMs)}, sent again at ${at(startedMs)}`, id);
  }
  const ends: [string, readonly number[]][] = [
    ["I5 cancel is final", record.canceledMs],
    ["nothing after expiry", record.expiredMs],
    ["I10 nothing after death", record.buriedMs],
  ];
  for (const [rule, instants] of ends) {
    const endedMs = instants.findLast((ms) => ms < startedMs);
    if (endedMs === undefined) continue;
    const revived = record.contents.some(({ atMs, how }) => how === "replaced" && atMs >= endedMs && atMs <= startedMs);
    if (!revived) violated(rule, `ended at ${at(endedMs)}, sent at ${at(startedMs)}`, id);
  }
};

/** A send and the one after it. */
const checkNext = (run: AfterRun, record: MessageRecord, last: Send, send: Send, violated: Violated): void => {
  const { id } = record;
  if (send.attempt <= last.attempt) {
    const text = `attempt ${last.attempt} at ${at(last.startedMs)}, attempt ${send.attempt} at ${at(send.startedMs)}`;
    violated("P7 every send is an attempt of its own", text, id);
  }
  const hasFailed = last.result === "transient" || last.result === "throttled" || last.result === "unknown";
  if (!hasFailed || last.resultMs === undefined || last.epoch !== send.epoch || hasClockTrouble(run)) return;
  const retry = record.settled.find(
    ({ kind, atMs, epoch }) =>
      kind === "retry" && epoch === send.epoch && atMs >= last.resultMs! && atMs <= send.startedMs,
  );
  const moved = record.contents.some(({ atMs }) => atMs >= last.resultMs! && atMs <= send.startedMs);
  if (moved) return;
  if (retry === undefined) {
    violated(
      "I10 a failed send is recorded before the next",
      `failed at ${at(last.resultMs)}, sent at ${at(send.startedMs)}`,
      id,
    );
  } else if (send.startedMs < last.resultMs + last.minBackoffMs - 30) {
    const waitedMs = send.startedMs - last.resultMs;
    violated(
      "I10 backoff",
      `waited ${waitedMs.toFixed(1)} ms of ${last.minBackoffMs} ms after attempt ${last.attempt}`,
      id,
    );
  }
};

/** A send after one that the broker stored: it must be explained by something that happened to the first. */
const checkSecond = (run: AfterRun, record: MessageRecord, first: Send, send: Send, violated: Violated): void => {
  const { ledger, options } = run;
  const { id, shard } = record;
  const text = `stored at ${at(first.storedMs[0]!)} for ${first.node.name} (epoch ${first.epoch}), sent again at ${at(send.startedMs)} by ${send.node.name} (epoch ${send.epoch})`;
  if (options.mood !== "stormy") {
    violated("I4 in fair weather no duplicates", text, id);
    return;
  }
  // D3: its sender was not told that it is there.
  if (first.result === "unknown" && first.resultMs! <= send.startedMs) return;
  if (send.epoch === undefined || first.epoch === undefined || send.epoch <= first.epoch) {
    violated("I4 duplicates only in named windows", `${text}: same owner, and it knew`, id);
    return;
  }
  // D2: its sender died before it could say so.
  if (first.node.diedMs <= send.startedMs && first.node.stoppingMs > first.node.diedMs) return;
  // D4: its sender had lost the shard.
  const taken = ledger.acquired.find((acquired) => acquired.shard === shard && acquired.epoch > first.epoch!);
  if (taken?.freed === "ran out") return;
  const released = ledger.released.find((other) => other.shard === shard && other.epoch === first.epoch);
  if (released !== undefined && released.validUntilMs <= released.calledMs + graceMs) return;
  violated("I4 duplicates only in named windows", `${text}: the shard was handed over while it was out`, id);
};

/** A replaced message lives anew: what was sent before is another message's business. */
const isSameLife = (record: MessageRecord, first: Send, second: Send): boolean =>
  !record.contents.some(({ how, atMs }) => how === "replaced" && atMs >= first.startedMs && atMs <= second.startedMs);

const contentAt = (record: MessageRecord, atMs: number): Content | undefined =>
  record.contents.findLast((content) => content.atMs <= atMs);

/** I7: whoever is claimed has nobody in front of it in its group. */
export const checkGroups = ({ ledger }: AfterRun, violated: Violated): void => {
  const groups = new Map<string, MessageRecord[]>();
  for (const record of ledger.messages.values()) {
    if (record.group === undefined) continue;
    const name = `${record.topic}/${record.group}`;
    groups.set(name, [...(groups.get(name) ?? []), record]);
  }
  for (const [name, records] of groups) {
    for (const record of records) {
      for (const claim of record.claims) {
        // From its second attempt on it keeps its place against whoever comes.
        if (claim.again || claim.attempt > 1) continue;
        const mine = contentAt(record, claim.atMs)!;
        const firstClaimMs = record.claims[0]!.atMs;
        for (const other of records) {
          if (other === record || !waitedAt(other, claim.atMs)) continue;
          const theirs = contentAt(other, claim.atMs)!;
          // Given back, a head gives way to the next that comes in front of it, not to one that came while it was out.
          if (theirs.atMs >= firstClaimMs) continue;
          const isOut = other.claims.findLast(({ atMs }) => atMs < claim.atMs);
          const wasOut =
            isOut !== undefined &&
            !other.settled.some(({ atMs }) => atMs > isOut.atMs && atMs <= claim.atMs) &&
            !other.recovered.some(({ atMs }) => atMs > isOut.atMs && atMs <= claim.atMs);
          if (theirs.deliverAtMs < mine.deliverAtMs || wasOut) {
            const text = `group ${name}: at ${at(claim.atMs)} ${mine.content} was claimed, ${theirs.content} ${wasOut ? "was out" : "stood before it"}`;
            violated("I7 a group goes in order, one after the other", text, record.id, other.id);
          }
        }
      }
    }
  }
};

/** Had it been accepted, and not ended, at this instant? */
const waitedAt = (record: MessageRecord, atMs: number): boolean => {
  const content = contentAt(record, atMs);
  if (content === undefined) return false;
  const ends = [
    ...record.canceledMs,
    ...record.expiredMs,
    ...record.buriedMs,
    ...record.settled.filter(({ kind }) => kind === "delivered").map((settled) => settled.atMs),
  ];
  const revivedMs =
    record.contents.findLast(({ how, atMs: changedMs }) => how === "replaced" && changedMs <= atMs)?.atMs ?? 0;
  // At the very instant of the claim an expired head may make room for its follower.
  return !ends.some((endedMs) => endedMs <= atMs && endedMs >= revivedMs);
};
