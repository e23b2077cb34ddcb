import {
  PermanentError,
  ThrottledError,
  TransientError,
  UnknownOutcomeError,
} from "../../../src/retry/classified-errors.ts";
import type { Prng } from "../prng.ts";

/**
 * What a message's handler does each time that it runs, decided when the message is sent. `then` is what comes when the
 * odd runs are over: most messages work in the end, and those that do not say why they may be dead.
 */
export type Script = {
  readonly kind: ScriptKind;
  /** So many runs are odd, then it works; Infinity: it never does. */
  readonly odd: number;
  readonly workMs: number;
  /** Which of the many things that may be thrown. */
  readonly flavor: number;
  /** What its handler calls. */
  readonly key: string | undefined;
  /** With these codes it may be found dead; without, it must work. */
  readonly mayDie: readonly string[];
};

export type ScriptKind =
  | "call"
  | "throws"
  | "odd throws"
  | "hangs"
  | "long"
  | "crashes"
  | "snooze"
  | "retryAt"
  | "park"
  | "dead"
  | "permanent"
  | "rule dead"
  | "rule park"
  | "never works";

export const scriptOf = (random: Prng, keys: readonly string[], isOdd: boolean, timeoutMs: number): Script => {
  const plain = { odd: 0, workMs: random.between(1, 60), flavor: random.whole(0, 99), key: undefined, mayDie: [] };
  if (!isOdd || random.chance(0.5)) return { ...plain, kind: "call", key: random.pick(keys) };
  const few = random.whole(1, 3);
  const choice = random.float();
  if (choice < 0.2) return { ...plain, kind: "throws", odd: few };
  if (choice < 0.35) return { ...plain, kind: "odd throws", odd: few };
  if (choice < 0.41) return { ...plain, kind: "hangs", odd: random.whole(1, 2) };
  if (choice < 0.47) return { ...plain, kind: "long", workMs: random.between(0.3, 0.9) * timeoutMs };
  if (choice < 0.55) {
    return random.chance(0.5)
      ? { ...plain, kind: "crashes", odd: Number.POSITIVE_INFINITY, mayDie: ["crash_loop"] }
      : { ...plain, kind: "crashes", odd: 1 };
  }
  if (choice < 0.63) return { ...plain, kind: "snooze", odd: few };
  if (choice < 0.7) return { ...plain, kind: "retryAt", odd: few };
  if (choice < 0.76) return { ...plain, kind: "park", odd: 1 };
  if (choice < 0.82) return { ...plain, kind: "dead", odd: Number.POSITIVE_INFINITY, mayDie: ["handler"] };
  if (choice < 0.89) return { ...plain, kind: "permanent", odd: Number.POSITIVE_INFINITY, mayDie: ["permanent"] };
  if (choice < 0.93) return { ...plain, kind: "rule dead", odd: Number.POSITIVE_INFINITY, mayDie: ["rule"] };
  if (choice < 0.97) return { ...plain, kind: "rule park", odd: 1 };
  return { ...plain, kind: "never works", odd: Number.POSITIVE_INFINITY, mayDie: ["attempts_exhausted"] };
};

/** Ordinary failures, none of them permanent. */
export const failureOfFlavor = (flavor: number): unknown => {
  const failures = [
    () => new TransientError("not now"),
    () => new ThrottledError("1s"),
    () => new ThrottledError(700),
    () => new UnknownOutcomeError("no answer"),
    () => Object.assign(new Error("upstream"), { status: 503 }),
    () => Object.assign(new Error("slow down"), { status: 429, headers: { "retry-after": "1" } }),
    () => Object.assign(new Error("connect ECONNREFUSED 10.0.0.9:443"), { code: "ECONNREFUSED" }),
    () => new TransientError("slowly", { code: "rule_slow" }),
  ];
  return failures[flavor % failures.length]!();
};

/** The time asked for by it, in milliseconds. */
export const askedMs = (flavor: number): number | undefined =>
  [undefined, 1_000, 700, undefined, undefined, 1_000][flavor % 8];

/** What nobody should throw, and somebody does. */
export const oddFailureOfFlavor = (flavor: number): unknown => {
  const circular: { self?: unknown; name: string } = { name: "circle" };
  circular.self = circular;
  const thrown = [
    () => undefined,
    () => null,
    () => "a text",
    () => 42n,
    () => Symbol("odd"),
    () => circular,
    () =>
      new Proxy(
        {},
        {
          get: () => {
            throw new Error("even to look at it throws");
          },
        },
      ),
    () => Object.assign(new Error("x".repeat(200_000)), { cause: new Error("y".repeat(100_000)) }),
    () => Object.create(null),
    () => Promise.reject,
  ];
  return thrown[flavor % thrown.length]!();
};

export const permanentFailure = (): unknown => new PermanentError("can never work");
export const ruleFailure = (code: "rule_dead" | "rule_park" | "rule_fast"): unknown =>
  new TransientError("by rule", { code });
