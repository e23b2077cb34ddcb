import { type DurationMs, durationMs, epochMs, minute, second } from "../../src/message/time.ts";
import { type Decision, decide } from "../../src/retry/decide.ts";
import { explain } from "../../src/retry/explain.ts";
import { parsePolicy } from "../../src/retry/parse-policy.ts";
import type { RetryPolicy } from "../../src/retry/policy.ts";
import { presets } from "../../src/retry/presets.ts";
import { type EngineCourse, liveThroughWithEngine } from "./outage-engine.ts";
import { Prng } from "./prng.ts";

/**
 * One outage on a virtual clock, lived through by many messages under one policy: all of them fail within two seconds,
 * the dependency is gone for a while and comes back with room for only so many calls a second; what comes above that
 * fails as overload. The fleet of consumers has a limit of its own, and what is due beyond it waits in line.
 * `npm run outage` prints the table; every wait in it is decided by `decide`.
 *
 * These contenders know nothing of the outage: no circuit breaker, no budget. The last row does, and has a model of its
 * own around the same outage, because it runs the engine's real parts (outage-engine.ts).
 */
export type Outage = {
  readonly messages: number;
  readonly downMs: number;
  /** Calls a second that succeed once it is back. */
  readonly capacityPerSecond: number;
  /** Calls a second that all consumers together can make. */
  readonly fleetPerSecond: number;
  readonly seed: number;
};

export type Course = {
  readonly callsPerMessage: number;
  /** The most calls in one second after the return. */
  readonly peakPerSecond: number;
  /** From the return until 99 of 100 messages were through; undefined when too many died. */
  readonly drained99Ms: number | undefined;
  /** Parts of one. */
  readonly failed16Times: number;
  readonly dead: number;
};

export type Contender = {
  readonly name: string;
  readonly policy: RetryPolicy;
  /** Chance on top of what the policy decides, for jitters that the policy language does not have. */
  readonly spread?: (waitMs: number, chance: number) => number;
};

/** Fine enough for a limit by the second, and few enough steps for hours. */
const tickMs = 100;

export const liveThrough = ({ policy, spread }: Contender, outage: Outage): Course => {
  const { messages, downMs, seed } = outage;
  const random = new Prng(seed);
  const perTick = (perSecond: number): number => Math.round((perSecond * tickMs) / 1_000);
  const [fleet, capacity] = [perTick(outage.fleetPerSecond), perTick(outage.capacityPerSecond)];
  const attempts = new Uint16Array(messages);
  const firstFailedAtMs = new Float64Array(messages);
  const previousDelayMs = new Float64Array(messages);
  const dueByTick = new Map<number, number[]>();
  let left = messages;
  let [calls, dead, failed16Times, succeeded] = [0, 0, 0, 0];
  let drained99Ms: number | undefined;

  const fails = (message: number, nowMs: number): void => {
    const attempt = ++attempts[message]!;
    if (attempt === 1) firstFailedAtMs[message] = nowMs;
    if (attempt === 16) failed16Times++;
    const decision: Decision = decide(
      policy,
      {
        attempt,
        crashes: 0,
        firstFailedAtMs: epochMs(firstFailedAtMs[message]!),
        parkedMs: durationMs(0),
        nowMs: epochMs(nowMs),
        ...(attempt === 1 ? undefined : { previousDelayMs: previousDelayMs[message] as DurationMs }),
        failure: { class: "transient", code: "unreachable" },
      },
      random,
    );
    if (decision.kind !== "retry") {
      dead++;
      left--;
      return;
    }
    const decidedMs = decision.atMs - nowMs;
    const waitMs = spread === undefined ? decidedMs : spread(decidedMs, random.float());
    previousDelayMs[message] = waitMs;
    const tick = Math.ceil((nowMs + waitMs) / tickMs);
    const due = dueByTick.get(tick);
    if (due === undefined) dueByTick.set(tick, [message]);
    else due.push(message);
  };

  // The first call of each, as things stand when it breaks: not held by the fleet's limit.
  for (let message = 0; message < messages; message++) fails(message, Math.floor((message / messages) * 2 * second));
  calls = messages;

  let line: number[] = [];
  const callsInTicks: number[] = [];
  let peakPerSecond = 0;
  for (let tick = 1; left > 0; tick++) {
    const nowMs = tick * tickMs;
    const due = dueByTick.get(tick);
    dueByTick.delete(tick);
    if (due !== undefined) line = line.length === 0 ? due : line.concat(due);
    const going = line.length <= fleet ? line : line.slice(0, fleet);
    line = line.length <= fleet ? [] : line.slice(fleet);
    calls += going.length;
    const answered = nowMs < downMs ? 0 : Math.min(going.length, capacity);
    for (let i = answered; i < going.length; i++) fails(going[i]!, nowMs);
    left -= answered;
    succeeded += answered;
    if (succeeded >= messages * 0.99) drained99Ms ??= nowMs - downMs;
    if (nowMs >= downMs) {
      callsInTicks.push(going.length);
      const lastSecond = callsInTicks.slice(-1_000 / tickMs).reduce((sum, count) => sum + count, 0);
      peakPerSecond = Math.max(peakPerSecond, lastSecond);
    }
  }
  return {
    callsPerMessage: calls / messages,
    peakPerSecond,
    drained99Ms,
    failed16Times: failed16Times / messages,
    dead: dead / messages,
  };
};

const unlimited = { maxAttempts: 1_000, maxAge: null };
const exponential = { kind: "exponential", base: "1s", factor: 2, cap: "10m" };
const like = (backoff: object): RetryPolicy => parsePolicy({ backoff, limits: unlimited });
const presetOf = (name: string): RetryPolicy => presets.find((preset) => preset.name === name)!.policy;

/** All without a limit, so that what 16 failures would mean can be counted; the last one as it is used. */
export const contenders: readonly Contender[] = [
  {
    name: "RocketMQ ladder, no jitter",
    policy: { ...presetOf("rocketmq-ladder"), limits: parsePolicy({ limits: unlimited }).limits },
  },
  { name: "exponential, no jitter", policy: like({ ...exponential, jitter: "none" }) },
  {
    name: "±25 % jitter",
    policy: like({ ...exponential, jitter: "none" }),
    spread: (waitMs, chance) => waitMs * (0.75 + chance / 2),
  },
  { name: "equal jitter", policy: like({ ...exponential, jitter: "equal" }) },
  { name: "full jitter", policy: like({ ...exponential, jitter: "full" }) },
  { name: "decorrelated", policy: like({ kind: "decorrelated", base: "1s", cap: "10m" }) },
  { name: "preset default, with its limits", policy: presetOf("default") },
];

export const outage: Outage = {
  messages: 100_000,
  downMs: 10 * minute,
  capacityPerSecond: 1_500,
  fleetPerSecond: 5_000,
  seed: 1,
};

/** How long 16 waits take on average: what a limit of 16 retries means in time. */
export const horizonMs = ({ policy }: Contender): number =>
  explain(policy, { class: "transient", code: "unreachable" }, epochMs(0), 16).attempts[15]!.sinceFirstMs!.meanMs;

/** The engine: the preset `default`, ten consumers, and two processes of the service. */
export const liveThroughAsWeDo = async (outage: Outage): Promise<Course & { readonly engine: EngineCourse }> => {
  const { messages, downMs, capacityPerSecond, fleetPerSecond, seed } = outage;
  const engine = await liveThroughWithEngine(presetOf("default"), {
    messages,
    isUp: (nowMs) => nowMs >= downMs,
    capacityPerSecond,
    fleetPerSecond,
    workers: 10,
    seed,
    untilMs: downMs + 60 * minute,
  });
  const through = [...engine.doneAtMs].sort((a, b) => a - b)[Math.ceil(messages * 0.99) - 1]!;
  const after = engine.callsBySecond.slice(downMs / second).map((calls) => calls ?? 0);
  return {
    engine,
    callsPerMessage: engine.calls / messages,
    peakPerSecond: after.reduce((most, calls) => Math.max(most, calls ?? 0), 0),
    drained99Ms: Number.isFinite(through) ? through - downMs : undefined,
    failed16Times: engine.failed16Times / messages,
    dead: engine.dead / messages,
  };
};

if (import.meta.main) {
  const percent = (part: number): string =>
    part > 0 && part < 0.0005 ? "< 0.1 %" : `${(part * 100).toFixed(part > 0 && part < 0.0995 ? 1 : 0)} %`;
  const print = (cells: readonly string[]): void => void process.stdout.write(`| ${cells.join(" | ")} |\n`);
  print([
    "policy",
    "calls a message",
    "most calls/s after",
    "99 % drained after",
    "failed 16 times",
    "dead",
    "16 retries take",
  ]);
  print(["---", "---", "---", "---", "---", "---", "---"]);
  const row = (name: string, short: Course, long: Course, horizon: string): void => {
    const both = (of: (course: Course) => string): string => `${of(short)} / ${of(long)}`;
    print([
      name,
      both((course) => course.callsPerMessage.toFixed(1)),
      both((course) => String(course.peakPerSecond)),
      both(({ drained99Ms }) => (drained99Ms === undefined ? "never" : `${Math.round(drained99Ms / 1_000)} s`)),
      both((course) => percent(course.failed16Times)),
      both((course) => percent(course.dead)),
      horizon,
    ]);
  };
  const hourLong = { ...outage, downMs: 60 * minute };
  for (const contender of contenders) {
    const horizon = `${Math.round(horizonMs(contender) / minute)} min`;
    row(contender.name, liveThrough(contender, outage), liveThrough(contender, hourLong), horizon);
  }
  row("preset default, breaker, parking", await liveThroughAsWeDo(outage), await liveThroughAsWeDo(hourLong), "–");
}
