import type { ShardStats, StoredMessage } from "../../src/delay/delay-store.port.ts";
import { clockToleranceMs } from "../../src/runtime/clock.ts";
import { checkGroups, checkSends } from "./check-sends.ts";
import type { Ledger } from "./ledger.ts";
import type { SimOptions } from "./options.ts";
import type { SimNode } from "./sim-node.ts";
import { epochStartMs } from "./world.ts";

/**
 * The promises, each as a look at the ledger after everything has come to rest. I1 to I16 are the invariants of the
 * design; a rule without a number is one that the simulation adds.
 */
export type Violation = { readonly rule: string; readonly text: string; readonly ids: readonly string[] };

export type AfterRun = {
  readonly options: SimOptions;
  readonly ledger: Ledger;
  /** What the store says of each message in the end. */
  readonly stored: ReadonlyMap<string, StoredMessage | undefined>;
  readonly stats: readonly ShardStats[];
  readonly healedMs: number;
  /** When everything due had gone out; undefined when it had not by `limitMs`. */
  readonly quietMs: number | undefined;
  readonly limitMs: number;
  readonly farQuiet: boolean;
  readonly stopped: boolean;
  readonly gaugesAtRest: readonly { node: SimNode; out: number; ready: number; near: number }[];
  readonly unacknowledged: number;
  readonly openClients: number;
  readonly rejections: readonly unknown[];
  readonly endMs: number;
};

export const check = (run: AfterRun): Violation[] => {
  const violations: Violation[] = [...run.ledger.seen];
  const violated = (rule: string, text: string, ...ids: string[]): void => void violations.push({ rule, text, ids });
  for (const error of run.rejections) {
    violated("bug thrown", error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
  checkLiveness(run, violated);
  checkOwners(run, violated);
  checkEnds(run, violated);
  checkAnswers(run, violated);
  checkSends(run, violated);
  checkGroups(run, violated);
  if (run.options.mood === "calm") checkLateness(run, violated);
  return violations;
};

export type Violated = (rule: string, text: string, ...ids: string[]) => void;

const checkLiveness = (run: AfterRun, violated: Violated): void => {
  const { ledger, healedMs, quietMs, limitMs, options } = run;
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
  if (quietMs === undefined) {
    const stuck = [...ledger.messages.values()].filter(
      ({ state, contents }) =>
        state === "claimed" ||
        (state === "scheduled" && contents.length > 0 && contents.at(-1)!.deliverAtMs - epochStartMs < limitMs),
    );
    const text = `healed at ${seconds(healedMs)}, and at ${seconds(limitMs)} ${stuck.length} messages wait, ${run.unacknowledged} ingest messages are not acknowledged, ${run.openClients} clients ask on`;
    violated("I13 everything due goes out after the storm", text, ...stuck.slice(0, 3).map(({ id }) => id));
  }
  if (!run.farQuiet) {
    const stuck = [...ledger.messages.values()].filter(({ state }) => state === "scheduled" || state === "claimed");
    violated("I13 what is due hours later goes out", `${stuck.length} wait`, ...stuck.slice(0, 3).map(({ id }) => id));
  }
  if (!run.stopped) violated("an orderly stop comes to its end", "a process did not stop within 12 s");
  for (const { node, out, ready, near } of run.gaugesAtRest) {
    if (quietMs === undefined) break;
    if (out !== 0 || ready !== 0) {
      violated("I15 at rest nothing is out", `${node.name} counts ${out} out, ${ready} due and waiting, ${near} near`);
    }
  }
  // Every shard has an owner soon after the storm.
  const byMs = healedMs + options.callTimeoutMs + options.leaseMs + 2_000;
  for (let shard = 0; shard < options.shards; shard++) {
    const owned = ledger.acquired.findLast((acquired) => acquired.shard === shard && acquired.atMs <= byMs);
    const released = ledger.released.some(
      (other) => other.shard === shard && other.epoch === owned?.epoch && other.atMs <= byMs,
    );
    if (owned !== undefined && owned.node.diedMs > byMs && !released) continue;
    const next = ledger.acquired.find((acquired) => acquired.shard === shard && acquired.atMs > byMs);
    // Who starts late cannot have taken it before; and what is being handed over has an owner in a moment.
    if (next !== undefined && (next.node.startedMs > healedMs || next.atMs < byMs + 200 + options.leaseMs / 10))
      continue;
    violated(
      "I13 every shard has an owner a call, a lease and two seconds after the storm",
      `shard ${shard} has none from ${seconds(healedMs)} to ${next === undefined ? "the end" : seconds(next.atMs)}`,
    );
  }
};

const checkOwners = ({ ledger, options }: AfterRun, violated: Violated): void => {
  for (const { atMs, shard, epoch, before, freed, formerUntilMs } of ledger.acquired) {
    if (freed !== "ran out" || before === undefined) continue;
    const text = `shard ${shard}: the lease of ${before.name} ran out before epoch ${epoch} at ${(atMs / 1000).toFixed(4)} s`;
    if (options.mood !== "stormy") violated("in fair weather no lease runs out", text);
    if (before.diedMs <= formerUntilMs) continue;
    const fromMs = formerUntilMs - options.leaseMs * 1.3;
    if (!ledger.hadTrouble(before, fromMs, formerUntilMs, ["pause", "store", "connection", "store clock"])) {
      violated("I9 a lease runs out for a reason only", text);
    }
  }
};

const checkEnds = (run: AfterRun, violated: Violated): void => {
  const { ledger, stored, stats, options } = run;
  const counts = { scheduled: 0, claimed: 0, dead: 0 };
  for (const record of ledger.messages.values()) {
    const { id, state, contents } = record;
    const found = stored.get(id);
    if (found === undefined) {
      violated("I1 none is lost", `the store does not know it any more; it was ${state}`, id);
      continue;
    }
    if (found.state !== state) {
      violated("I11 the store has what was done", `the store says ${found.state}, its effects say ${state}`, id);
    }
    if (found.state === "scheduled" || found.state === "claimed" || found.state === "dead") counts[found.state]++;
    if (found.state === "claimed" && run.stopped) violated("I1 none is left claimed", "everybody has stopped", id);
    const lastSettled = record.settled.at(-1);
    if (found.state === "delivered") {
      const sent = record.sends.some(
        ({ storedMs }) => storedMs.length > 0 && lastSettled !== undefined && storedMs[0]! <= lastSettled.atMs,
      );
      if (!sent)
        violated("I1 delivered means that the broker has it", "it counts as delivered and was never stored", id);
    }
    if (found.state === "canceled" && record.canceledMs.length === 0) violated("I1", "canceled by nobody", id);
    if (found.state === "expired") {
      const expireAtMs = contents.at(-1)?.expireAtMs;
      const expiredMs = record.expiredMs.at(-1)! + epochStartMs;
      if (expireAtMs === undefined || (!hasClockTrouble(run) && expiredMs < expireAtMs - 1)) {
        violated("I1 expired only after its time", `expireAt ${expireAtMs}, expired at ${expiredMs}`, id);
      }
    }
    if (found.state === "dead" && record.buriedText === undefined) checkDeath(record.sends, found, violated, id);
  }
  if (!run.stopped) return;
  const sum = (pick: (one: ShardStats) => number): number => stats.reduce((total, one) => total + pick(one), 0);
  const waiting = sum(({ waitingByTopic }) => [...waitingByTopic.values()].reduce((total, count) => total + count, 0));
  const claimed = sum((one) => one.claimed);
  const dead = sum((one) => one.dead);
  if (waiting !== counts.scheduled || claimed !== counts.claimed || dead !== counts.dead) {
    violated(
      "I11 conservation",
      `the store counts ${waiting} waiting, ${claimed} claimed, ${dead} dead; one by one they are ${counts.scheduled}, ${counts.claimed}, ${counts.dead} (${options.shards} shards)`,
    );
  }
};

const checkDeath = (
  sends: AfterRun["ledger"]["messages"] extends Map<string, infer R>
    ? R extends { sends: infer S }
      ? S
      : never
    : never,
  found: StoredMessage,
  violated: Violated,
  id: string,
): void => {
  const last = sends.at(-1);
  if (found.reason?.code === "attempts_exhausted") {
    const allowed = found.message?.retry?.maxAttempts ?? 80;
    if (found.attempt < allowed)
      violated("I10 dead only when attempts are used up", `${found.attempt} of ${allowed}`, id);
  } else if (last?.result !== "permanent") {
    violated(
      "I1 dead for a reason",
      `${found.reason?.code}, but its last send was ${last?.result ?? "never made"}`,
      id,
    );
  }
};

const checkAnswers = (run: AfterRun, violated: Violated): void => {
  const { ledger } = run;
  const kept = new Set(
    ledger.operations.filter(({ onConflict }) => onConflict === "keep").map(({ content }) => content!),
  );
  const idOfKey = new Map<string, string>();
  for (const operation of ledger.operations) {
    const { kind, id, key, group, answer, content, number, deduplicated, startedMs, delayMs } = operation;
    if (kind === "schedule" && answer === "done") {
      const record = id === undefined ? undefined : ledger.messages.get(id);
      if (record === undefined) {
        violated("P1 accepted is durable", `client ${number} was told ${id}, which the store never had`, id ?? "");
        continue;
      }
      if (key !== undefined) {
        const name = `${group ?? ""}/${key}`;
        const known = idOfKey.get(name);
        if (known !== undefined && known !== id)
          violated("I8 the same key is one message", `${known} and ${id}`, known, id!);
        idOfKey.set(name, id!);
      }
      if (kept.has(content!) && record.contents.some((one) => one.content === content && one.how === "replaced")) {
        violated("P5 keep keeps the first", `${content} replaced another message`, id!);
      }
      const mine = record.contents.findLast((one) => one.content === content && one.how !== "rescheduled");
      if (mine === undefined) {
        if (!deduplicated) violated("P1 accepted is durable", `client ${number}'s ${content} was never stored`, id!);
        continue;
      }
      if (record.contents.filter((one) => one.content === content && one.how === "scheduled").length > 1) {
        violated("I8 the same key is one message", `${content} was scheduled twice`, id!);
      }
      // A machine's clock that is set back together with the store's is believed.
      const isTimeKnown = !run.ledger.troubles.some((trouble) => trouble.kind === "store clock");
      if (delayMs !== undefined && mine.atMs >= startedMs && !deduplicated && isTimeKnown) {
        const askedMs = (operation.retryOf ?? operation).startedMs;
        const earliestMs =
          askedMs + delayMs - (hasClockTrouble(run) ? clockToleranceMs + run.options.callTimeoutMs : 2 * roundingMs);
        if (mine.deliverAtMs - epochStartMs < earliestMs) {
          const text = `client ${number} asked at ${startedMs.toFixed(1)} for a delay of ${delayMs} ms and got ${mine.deliverAtMs - epochStartMs}`;
          violated("I2 a delay counts from the asking", text, id!);
        }
      }
    }
    if ((kind === "cancel" || kind === "reschedule") && answer === "not_found" && id !== undefined) {
      violated("P4 cancel and reschedule answer the truth", `client ${number} was told not_found`, id);
    }
  }
  if (run.unacknowledged > 0 || run.options.receivers === 0) return;
  for (const { name, hasKey } of ledger.produced) {
    const records = [...ledger.messages.values()].filter(
      ({ contents, buriedText }) => buriedText === name || contents.some(({ content }) => content === name),
    );
    if (records.length > 1) violated("I8 an ingest message is one message", name, ...records.map(({ id }) => id));
    if (records.length === 0 && !hasKey) violated("I1 no ingest message is lost", name);
  }
};

/** In calm weather a single message leaves within milliseconds of its time, or of its coming. */
const checkLateness = ({ ledger, limitMs }: AfterRun, violated: Violated): void => {
  for (const { id, contents, sends, group, state } of ledger.messages.values()) {
    if (group !== undefined || contents.length !== 1 || state !== "delivered") continue;
    // What was due while nobody ran.
    if (contents[0]!.deliverAtMs - epochStartMs > limitMs) continue;
    const [{ deliverAtMs, atMs }] = contents as [(typeof contents)[0]];
    const lateMs = sends[0]!.startedMs - Math.max(deliverAtMs - epochStartMs, atMs);
    if (lateMs > latenessMaxMs) violated("I3 on time in calm weather", `${lateMs.toFixed(1)} ms late`, id);
  }
};

const latenessMaxMs = 30;

export const hasClockTrouble = ({ ledger }: AfterRun): boolean =>
  ledger.troubles.some(({ kind }) => kind === "node clock" || kind === "store clock");

/** Wall clocks tell whole milliseconds, and the checked clock's anchor and reading are each rounded down once. */
const roundingMs = 1.001;
