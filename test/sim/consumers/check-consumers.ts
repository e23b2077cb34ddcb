import { parsePolicy } from "../../../src/retry/parse-policy.ts";
import type { Backoff, RetryPolicy } from "../../../src/retry/policy.ts";
import type { Ledger } from "../ledger.ts";
import { type Book, countsAsAttempt, type Entry, type HandedOver, type Run, type Sent } from "./book.ts";
import { checkCalls } from "./check-calls.ts";
import { checkOrder } from "./check-order.ts";
import { checkRedrives } from "./check-redrives.ts";
import type { Dependencies } from "./dependencies.ts";
import type { ConsumerOptions } from "./options.ts";
import type { Redrives } from "./redrives.ts";
import { askedMs } from "./scripts.ts";

/** The promises of the retry engine, each as a look at the book after everything has come to rest. */
export type AfterConsumers = {
  readonly options: ConsumerOptions;
  readonly ledger: Ledger;
  readonly book: Book;
  /** What the store keeps as dead in the end, by id: why. */
  readonly dead: ReadonlyMap<string, string>;
  readonly dependencies: Dependencies;
  readonly redrives: Redrives;
  readonly healedMs: number;
  readonly quietMs: number | undefined;
  readonly endMs: number;
  readonly workersStopped: boolean;
  readonly left: readonly Entry[];
  readonly unread: number;
  readonly lives: number;
  readonly rejections: readonly unknown[];
};

export type Violated = (rule: string, text: string, ...names: string[]) => void;
type Violation = { readonly rule: string; readonly text: string; readonly ids: readonly string[] };

export const checkConsumers = (after: AfterConsumers): Violation[] => {
  const violations: Violation[] = [...after.book.seen, ...after.ledger.seen];
  const violated: Violated = (rule, text, ...ids) => void violations.push({ rule, text, ids });
  for (const error of after.rejections) {
    violated("bug thrown", error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
  checkLiveness(after, violated);
  const deaths = deathsOf(after);
  for (const message of after.book.sent.values()) {
    checkEnd(after, message, deaths.get(message.name) ?? [], violated);
    checkSuccess(message, violated);
    checkAttempts(after, message, violated);
    checkWaits(after, message, violated);
    checkCrashes(after, message, deaths.get(message.name) ?? [], violated);
    if (after.options.mood === "calm") checkCalm(message, violated);
  }
  checkOrder(after, violated);
  checkCalls(after, violated);
  checkRedrives(after, violated);
  return violations;
};

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(3)} s`;

/** Everything that was sent comes to its end once the world can finish it: parked, deferred or waiting alike. */
const checkLiveness = (after: AfterConsumers, violated: Violated): void => {
  const { quietMs, healedMs, endMs, left, unread, ledger, workersStopped } = after;
  if (!workersStopped) violated("C9 an orderly stop comes to its end", "a consumer did not stop within 20 s");
  if (quietMs !== undefined) return;
  const waiting = [...ledger.messages.values()].filter(({ state }) => state === "scheduled" || state === "claimed");
  const names = [...left.map(({ name }) => name), ...waiting.map(({ content }) => content?.content ?? "")];
  violated(
    "C1 everything comes to its end",
    `healed at ${seconds(healedMs)}, and at ${seconds(endMs)} ${left.length} are not acknowledged, ${waiting.length} wait in the service, ${unread} in the ingest topic`,
    ...new Set(names.slice(0, 3)),
  );
};

/** The dead, by message: with which code. */
const deathsOf = ({ ledger, dead }: AfterConsumers): Map<string, string[]> => {
  const deaths = new Map<string, string[]>();
  for (const [id, code] of dead) {
    const record = ledger.messages.get(id);
    const name = record?.buriedText ?? record?.content?.content ?? id;
    deaths.set(name, [...(deaths.get(name) ?? []), code]);
  }
  return deaths;
};

const checkEnd = (after: AfterConsumers, message: Sent, deaths: readonly string[], violated: Violated): void => {
  const { name, script, runs } = message;
  const hasWorked = runs.some(({ end }) => end === "ok" || end === "late");
  const waits = [...after.ledger.messages.values()].some(
    ({ state, content }) => state === "scheduled" && content?.content === name,
  );
  if (after.quietMs !== undefined && !hasWorked && deaths.length === 0 && !waits) {
    violated("C1 none is lost", `${name} (${script.kind}) neither succeeded nor is dead`, name);
  }
  for (const code of deaths) {
    // Those of crashes have a rule of their own.
    if (code === "crash_loop" || script.mayDie.includes(code)) continue;
    violated("C10 dead only with cause", `${name} (${script.kind}) is dead as ${code}`, name);
  }
};

/** Who knows that it worked neither runs it again nor hands it over. */
const checkSuccess = (message: Sent, violated: Violated): void => {
  for (const run of message.runs) {
    if (run.end !== "ok") continue;
    const { entry, node, endMs } = run;
    if (entry.duplicated) continue;
    const again = message.runs.find((other) => other.entry === entry && other.node === node && other.startMs > endMs!);
    if (again !== undefined) {
      const text = `${node.name} runs ${message.name} again at ${seconds(again.startMs)}, which worked there at ${seconds(endMs!)}`;
      violated("C2 what worked is not run again by who knows", text, message.name);
    }
    const handed = message.handedOver.find(
      (other) => other.from === entry && other.node === node && other.calledMs > endMs!,
    );
    if (handed !== undefined) {
      const text = `${node.name} hands ${message.name} over at ${seconds(handed.calledMs)}, which worked there at ${seconds(endMs!)}`;
      violated("C2 what worked is not handed over", text, message.name);
    }
  }
};

/** What is told and carried is what was tried: parked, deferred and brought back cost nothing, a failed run costs one. */
const checkAttempts = ({ options, book }: AfterConsumers, message: Sent, violated: Violated): void => {
  const blocks = options.order === "block-key" || options.order === "block-queue";
  const { name } = message;
  for (const run of message.runs) {
    const { entry, node, startMs, attempt } = run;
    const failed = failedRuns(book, entry, node, startMs);
    const base = entry.envelope?.attempt ?? 0;
    if (entry.duplicated) continue;
    const isRight =
      blocks && entry.envelope === undefined
        ? attempt > base + failed.least
        : attempt > base + failed.least && attempt <= base + failed.most + 1;
    if (!isRight) {
      const text = `${node.name} is told that this is attempt ${attempt} of ${name}; the message brought ${base}, ${failed.most} failed there`;
      violated("C3 attempts are told as they were", text, name);
    }
  }
  for (const handed of message.handedOver) {
    const { from, node, calledMs, envelope, kind } = handed;
    if (from.duplicated) continue;
    const base = from.envelope ?? { attempt: 0, crashes: 0, hop: 0 };
    if (envelope.hop !== base.hop + 1) violated("C3 hops count", `${name}: ${base.hop} to ${envelope.hop}`, name);
    const failed = failedRuns(book, from, node, calledMs);
    const crashed = envelope.crashes - base.crashes;
    const grown = envelope.attempt - base.attempt;
    // An ordered group goes by the broker's count until it gives up.
    const isRight = grown >= failed.least + crashed && ((blocks && kind === "dead") || grown <= failed.most + crashed);
    // And its crashes are carried only when they have ended it.
    if (isRight && crashed >= 0 && crashed <= (blocks && kind === "dead" ? options.policy.limits.maxCrashes : 1))
      continue;
    const words = kind === "park" ? "C5 parking costs no attempt" : "C3 attempts are carried as they were";
    const text = `${node.name} hands ${name} over (${kind}) with ${envelope.attempt} attempts and ${envelope.crashes} crashes; it brought ${base.attempt} and ${base.crashes}, ${failed.most} failed there`;
    violated(words, text, name);
  }
};

/**
 * Failed runs of this copy in this process. `least` leaves out those whose time with the broker was over before they
 * ended: the process could not tell anybody, and when the message came to it again that was taken for a crash.
 */
const failedRuns = (
  book: Book,
  entry: Entry,
  node: Run["node"],
  beforeMs: number,
): { readonly least: number; readonly most: number } => {
  const failed = book.runsOf(entry, node).filter((run) => run.startMs < beforeMs && countsAsAttempt(run, beforeMs));
  const present = entry.deliveries.findLast((delivery) => delivery.node === node && delivery.atMs <= beforeMs);
  const certain = failed.filter(
    ({ delivery, end, aborted, endMs }) =>
      (delivery === present?.number || entry.deliveries[delivery - 1]!.changedMs.length > 0) &&
      // Standing still, a process may hear the end of its handler before it notices how late that is.
      !(end === "late" && book.hadTrouble(node, aborted!.atMs, endMs!)),
  );
  return { least: certain.length, most: failed.length };
};

/** A retry comes no earlier than was decided, and what was decided is within the bounds of the policy. */
const checkWaits = (after: AfterConsumers, message: Sent, violated: Violated): void => {
  const { book, options } = after;
  const { name, script } = message;
  for (const handed of message.handedOver) {
    if (handed.kind !== "wait" || handed.storedMs === undefined) continue;
    const { envelope, dueMs } = handed;
    const early = message.entries.find(
      (entry) =>
        entry.envelope?.hop === envelope.hop &&
        entry.envelope.replays === envelope.replays &&
        entry.storedMs < dueMs - 1 &&
        // The first of a hop is the one that counts; what came after it may have been decided otherwise.
        firstOfHop(message, handed) === handed,
    );
    if (early !== undefined) {
      const text = `${name} is back at ${seconds(early.storedMs)}, ${seconds(dueMs)} was decided`;
      violated("C6 no retry is early", text, name);
    }
    const run = causeOf(book, handed);
    if (run === undefined) continue;
    const [low, high] = boundsOf(after, run, envelope.attempt, script.flavor);
    const waitMs = dueMs - run.endMs!;
    const isSteady = !book.hadTrouble(run.node, run.endMs!, handed.calledMs) && handed.calledMs < run.endMs! + 5;
    if (waitMs < low - 2 || (isSteady && waitMs > high + 5)) {
      const text = `${name} waits ${Math.round(waitMs)} ms after attempt ${envelope.attempt} (${run.end} ${run.code}); the policy says ${low} to ${high}`;
      violated("C6 waits are as the policy says", text, name);
    }
  }
  // Kept by the broker instead of handed over, it comes no earlier either, give or take what is not worth a hand-over.
  for (const run of message.runs) {
    const before = message.runs.findLast(
      (other) =>
        other.entry === run.entry &&
        other.node === run.node &&
        other.endMs !== undefined &&
        other.endMs <= run.startMs &&
        other !== run,
    );
    if (before === undefined || (before.end !== "threw" && before.end !== "retryAt")) continue;
    if (options.bound && before.end === "threw") continue;
    const [low] = boundsOf(after, before, before.attempt, script.flavor);
    if (run.startMs < before.endMs! + Math.min(low, 3_000) - 1_502) {
      const text = `${run.node.name} runs ${name} ${Math.round(run.startMs - before.endMs!)} ms after it failed there; ${low} were decided at least`;
      violated("C6 no retry is early", text, name);
    }
  }
};

const firstOfHop = ({ handedOver }: Sent, { envelope: { hop, replays } }: HandedOver): HandedOver | undefined =>
  handedOver
    .filter(({ envelope, storedMs }) => envelope.hop === hop && envelope.replays === replays && storedMs !== undefined)
    .sort((a, b) => a.storedMs! - b.storedMs!)[0];

/** The run whose failure this hand-over tells of; undefined where it was none. */
const causeOf = (book: Book, { from, node, calledMs, envelope }: HandedOver): Run | undefined => {
  const runs = book.runsOf(from, node).filter(({ endMs }) => endMs !== undefined && endMs <= calledMs);
  const last = runs.at(-1);
  const isCrash = envelope.crashes > (from.envelope?.crashes ?? 0);
  if (last === undefined || isCrash) return undefined;
  return last.end === "threw" || last.end === "retryAt" || last.end === "snooze" ? last : undefined;
};

/** From the words of the policy language alone; nothing of the engine is asked. */
const boundsOf = ({ options }: AfterConsumers, run: Run, attempt: number, flavor: number): [number, number] => {
  if (run.wantedMs !== undefined) {
    const ms = run.wantedMs - run.endMs!;
    return [ms, ms];
  }
  const policies = [options.policy, ...(options.bound ? [parsePolicy(options.nextPolicyInput), defaultOnes] : [])];
  const all = policies.map((policy): [number, number] => {
    const [low, high] = stepBounds(backoffFor(policy, run.code === "flavor 7" ? "rule_slow" : run.code), attempt);
    const asked = run.code.startsWith("flavor") ? askedMs(flavor) : undefined;
    return asked === undefined ? [low, high] : [Math.max(low, asked), Math.max(high, asked * 1.25)];
  });
  return [Math.min(...all.map(([low]) => low)), Math.max(...all.map(([, high]) => high))];
};

/** What holds before the service has answered for the first time. */
const defaultOnes = parsePolicy({});

const backoffFor = (policy: RetryPolicy, code: string): Backoff => {
  const rule = policy.rules.find(({ when }) => when.code === code);
  return rule?.action === "retry" && rule.backoff !== undefined ? rule.backoff : policy.backoff;
};

const stepBounds = (backoff: Backoff, attempt: number): [number, number] => {
  if (backoff.kind === "decorrelated" || backoff.kind === "list") throw new Error("not in these worlds");
  const step =
    backoff.kind === "fixed"
      ? backoff.delayMs
      : backoff.kind === "linear"
        ? Math.min(backoff.capMs, backoff.baseMs + backoff.incrementMs * (attempt - 1))
        : Math.min(backoff.capMs, backoff.baseMs * backoff.factor ** (attempt - 1));
  return [step * { none: 1, equal: 0.5, full: 0 }[backoff.jitter], step];
};

/** A crash is counted before the handler sees the message again, and nothing else is counted as one. */
const checkCrashes = (after: AfterConsumers, message: Sent, deaths: readonly string[], violated: Violated): void => {
  const { options, book } = after;
  const { name, script, runs, entries } = message;
  const { maxCrashes } = options.policy.limits;
  if (script.kind === "crashes") {
    const crashed = runs.filter(({ end }) => end === "crashed").length;
    // A process that could not hand over lately gives what looks like a crash back uncounted.
    const uncounted = message.handedOver.filter(
      ({ node, kind, envelope, from }) =>
        kind === "wait" && book.sawHandOverFail.has(node) && envelope.crashes === (from.envelope?.crashes ?? 0),
    ).length;
    // Brought back from the dead, it has its crashes before it once more.
    const replays = Math.max(0, ...entries.map(({ envelope }) => envelope?.replays ?? 0));
    // And a service that died behind its send sends once more: that copy has a count of its own.
    const copies =
      entries.length - new Set(entries.map(({ envelope }) => `${envelope?.replays} ${envelope?.hop}`)).size;
    const unasked = blocksOf(options) ? runs.filter((run) => run.end === "crashed" && isUnasked(run)).length : 0;
    if (crashed > maxCrashes * (1 + replays) + uncounted + copies + unasked) {
      const text = `${name} has ended ${crashed} processes; ${maxCrashes} are allowed, ${uncounted} could not hand over at times`;
      violated("C4 a crash loop ends", text, name);
    }
  }
  if (!deaths.includes("crash_loop")) return;
  const unanswered = entries.reduce((sum, entry) => sum + unansweredOf(entry), 0);
  if (unanswered < maxCrashes) {
    const text = `${name} (${script.kind}) is dead as crash_loop; ${unanswered} of its deliveries were not answered`;
    violated("C4 nothing healthy is taken for a crash loop", text, name);
  }
};

const blocksOf = ({ order }: AfterConsumers["options"]): boolean => order === "block-key" || order === "block-queue";

/** In a blocking lane: nobody had it before, its own process had, or the service gave no answer in three seconds. */
const isUnasked = ({ entry, delivery, node, startMs }: Run): boolean => {
  const before = entry.deliveries[delivery - 2];
  const now = entry.deliveries[delivery - 1];
  return before === undefined || before.node === node || startMs - now!.atMs >= 2_990;
};

/** Deliveries after which it came again though nobody had given it back. */
const unansweredOf = ({ deliveries }: Entry): number =>
  deliveries.slice(0, -1).filter(({ changedMs }) => changedMs.length === 0).length;

/** Where nothing fails but handlers, everything happens exactly once. */
const checkCalm = ({ name, entries }: Sent, violated: Violated): void => {
  const hops = new Map<string, number>();
  for (const { envelope } of entries) {
    const hop = `${envelope?.replays ?? 0}.${envelope?.hop ?? 0}`;
    hops.set(hop, (hops.get(hop) ?? 0) + 1);
  }
  for (const [hop, count] of hops) {
    if (count > 1) violated("C2 in fair weather each hop comes once", `${name}: hop ${hop} came ${count} times`, name);
  }
};
