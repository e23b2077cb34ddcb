import { topicPattern } from "../message/message.ts";
import type { DurationMs } from "../message/time.ts";
import { JsonReader } from "./json-reader.ts";
import {
  type Backoff,
  type BreakerSettings,
  type BudgetSettings,
  type DeadSettings,
  defaultBackoff,
  defaultBreaker,
  defaultBudget,
  defaultLimits,
  failureClasses,
  type Jitter,
  type Limits,
  policyLimits,
  type RetryPolicy,
  type Rule,
  type When,
} from "./policy.ts";

/**
 * A retry policy from JSON as people write it: durations as everywhere in the HTTP API, what is left out as in the
 * preset `default`. Either the whole policy is right, or every mistake is told with its path and nothing is taken.
 */

/** Throws `invalid_field` with all mistakes. */
export const parsePolicy = (input: unknown): RetryPolicy => {
  const reader = new JsonReader();
  const policy = readPolicy(reader, input, "policy");
  reader.finish();
  return policy;
};

/** For whoever reads more than a policy; the reader must `finish` before the answer is used. */
export const readPolicy = (reader: JsonReader, input: unknown, path: string): RetryPolicy => {
  const names = ["backoff", "limits", "rules", "breaker", "budget", "dead", "inFlight"];
  const { backoff, limits, rules, breaker, budget, dead, inFlight } = reader.object(input, path, names);
  return {
    backoff: backoff === undefined ? defaultBackoff : readBackoff(reader, backoff, `${path}.backoff`),
    limits: limits === undefined ? defaultLimits : readLimits(reader, limits, `${path}.limits`),
    rules:
      rules === undefined
        ? []
        : reader
            .array(rules, `${path}.rules`, policyLimits.rulesMax)
            .map((rule, i) => readRule(reader, rule, `${path}.rules[${i}]`)),
    ...(breaker === undefined ? undefined : { breaker: readBreaker(reader, breaker, `${path}.breaker`) }),
    ...(budget === undefined ? undefined : { budget: readBudget(reader, budget, `${path}.budget`) }),
    ...(dead === undefined ? undefined : { dead: readDead(reader, dead, `${path}.dead`) }),
    ...(inFlight === undefined
      ? undefined
      : { inFlight: reader.choice(inFlight, `${path}.inFlight`, ["adopt", "keep"], "adopt") }),
  };
};

const backoffFields = {
  fixed: ["delay", "jitter"],
  list: ["delays", "jitter"],
  linear: ["base", "increment", "cap", "jitter"],
  exponential: ["base", "factor", "cap", "jitter"],
  decorrelated: ["base", "factor", "cap"],
} as const satisfies Record<Backoff["kind"], readonly string[]>;
const kinds = Object.keys(backoffFields) as Backoff["kind"][];
const everyBackoffField = ["kind", ...new Set(Object.values(backoffFields).flat())];

const jitters: readonly Jitter[] = ["none", "full", "equal"];
/** The one of the paper that invented it. */
const decorrelatedFactor = 3;

const readBackoff = (reader: JsonReader, input: unknown, path: string): Backoff => {
  // A field that some kind has is told apart from one that none has: the first is a mistake in kind.
  const fields = reader.object(input, path, everyBackoffField);
  const kind = reader.choice(fields.kind, `${path}.kind`, kinds, "exponential");
  const own: readonly string[] = backoffFields[kind];
  for (const name of everyBackoffField) {
    if (name === "kind" || own.includes(name) || fields[name] === undefined) continue;
    reader.refuse(`${path}.${name}`, `does not go with the kind ${kind}, which has ${own.join(", ")}`);
  }
  const jitterPath = `${path}.jitter`;
  if (fields.jitter === "decorrelated" && kind !== "decorrelated") {
    reader.refuse(jitterPath, 'is no jitter of its own: write "kind": "decorrelated"');
  }
  const jitter =
    fields.jitter === "decorrelated" ? "equal" : reader.choice(fields.jitter, jitterPath, jitters, "equal");
  const wait = (name: string, fallback: DurationMs): DurationMs =>
    readWait(reader, fields[name], `${path}.${name}`, fallback);
  const required = (name: string): void => {
    if (fields[name] === undefined) reader.refuse(`${path}.${name}`, `is missing; the kind ${kind} needs it`);
  };
  switch (kind) {
    case "fixed":
      required("delay");
      return { kind, delayMs: wait("delay", defaultBackoff.baseMs), jitter };
    case "list": {
      const listPath = `${path}.delays`;
      const given = fields.delays ?? [];
      const delays = reader.array(given, listPath, policyLimits.listMax);
      if (given === delays && delays.length === 0)
        reader.refuse(listPath, "is missing or empty; give at least one wait");
      const delaysMs = delays.map((delay, i) =>
        readWait(reader, delay ?? null, `${listPath}[${i}]`, defaultBackoff.baseMs),
      );
      return { kind, delaysMs, jitter };
    }
    case "linear":
    case "exponential":
    case "decorrelated": {
      const baseMs = wait("base", defaultBackoff.baseMs);
      const capMs = wait("cap", Math.max(defaultBackoff.capMs, baseMs) as DurationMs);
      if (capMs < baseMs) reader.refuse(`${path}.cap`, "is shorter than the base");
      if (kind === "linear") return { kind, baseMs, incrementMs: wait("increment", baseMs), capMs, jitter };
      const fallback = kind === "exponential" ? defaultBackoff.factor : decorrelatedFactor;
      const factor = reader.number(fields.factor, `${path}.factor`, 1, policyLimits.factorMax, fallback);
      return kind === "exponential" ? { kind, baseMs, factor, capMs, jitter } : { kind, baseMs, factor, capMs };
    }
  }
};

const readWait = (reader: JsonReader, value: unknown, path: string, fallback: DurationMs): DurationMs =>
  reader.duration(value, path, policyLimits.delayMinMs, policyLimits.delayMaxMs, fallback);

const readLimits = (reader: JsonReader, input: unknown, path: string): Limits => {
  const fields = reader.object(input, path, ["maxAttempts", "maxAge", "deadline", "maxCrashes"]);
  const { attemptsMax, ageMinMs, ageMaxMs } = policyLimits;
  const maxAge = fields.maxAge === null ? undefined : fields.maxAge;
  const maxAgeMs = reader.duration(maxAge, `${path}.maxAge`, ageMinMs, ageMaxMs, defaultLimits.maxAgeMs);
  const deadlineMs = reader.instant(fields.deadline, `${path}.deadline`);
  const { maxAttempts, maxCrashes } = defaultLimits;
  return {
    maxAttempts: reader.whole(fields.maxAttempts, `${path}.maxAttempts`, 1, attemptsMax, maxAttempts),
    maxCrashes: reader.whole(fields.maxCrashes, `${path}.maxCrashes`, 1, attemptsMax, maxCrashes),
    ...(fields.maxAge === null ? undefined : { maxAgeMs }),
    ...(deadlineMs === undefined ? undefined : { deadlineMs }),
  };
};

const endings = ["retry", "dead", "park", "verify"] as const satisfies readonly Rule["action"][];

const readRule = (reader: JsonReader, input: unknown, path: string): Rule => {
  const fields = reader.object(input, path, ["when", "action", "backoff", "key"]);
  const when = readWhen(reader, fields.when, `${path}.when`);
  if (fields.action === undefined) reader.refuse(`${path}.action`, `is missing; say ${endings.join(", ")}`);
  const action = reader.choice(fields.action, `${path}.action`, endings, "retry");
  if (fields.backoff !== undefined && action !== "retry") {
    reader.refuse(`${path}.backoff`, 'goes with "action": "retry" only');
  }
  if (fields.key !== undefined && action !== "park") reader.refuse(`${path}.key`, 'goes with "action": "park" only');
  if (action === "park") {
    if (fields.key === undefined) reader.refuse(`${path}.key`, "is missing; name what is opened again one day");
    return { when, action, key: reader.text(fields.key, `${path}.key`, policyLimits.textMax, "") };
  }
  if (action !== "retry") return { when, action };
  if (fields.backoff === undefined) return { when, action };
  return { when, action, backoff: readBackoff(reader, fields.backoff, `${path}.backoff`) };
};

const readWhen = (reader: JsonReader, input: unknown, path: string): When => {
  const fields = reader.object(input, path, ["class", "code", "status", "fromAttempt"]);
  if (fields === input && Object.keys(fields).length === 0) {
    reader.refuse(path, "is empty, so that it would fit everything; name a class, code, status or fromAttempt");
  }
  const { attemptsMax, textMax } = policyLimits;
  const code = reader.text(fields.code, `${path}.code`, textMax, "");
  if (code.slice(0, -1).includes("*") || code === "*") {
    reader.refuse(`${path}.code`, 'is a code, or the beginning of one with a * at the end, such as "http_5*"');
  }
  return {
    ...(fields.class === undefined
      ? undefined
      : { class: reader.choice(fields.class, `${path}.class`, failureClasses, "transient") }),
    ...(fields.code === undefined ? undefined : { code }),
    ...(fields.status === undefined ? undefined : { status: readStatus(reader, fields.status, `${path}.status`) }),
    ...(fields.fromAttempt === undefined
      ? undefined
      : { fromAttempt: reader.whole(fields.fromAttempt, `${path}.fromAttempt`, 1, attemptsMax, 1) }),
  };
};

/** `503`, or `"5xx"` for a hundred of them. */
const readStatus = (reader: JsonReader, value: unknown, path: string): { from: number; to: number } => {
  if (typeof value === "string" && /^[1-5]xx$/.test(value)) {
    const from = Number(value[0]) * 100;
    return { from, to: from + 99 };
  }
  if (Number.isInteger(value) && (value as number) >= 100 && (value as number) <= 599) {
    return { from: value as number, to: value as number };
  }
  reader.refuse(path, 'must be an HTTP status from 100 to 599, or such as "5xx"');
  return { from: 100, to: 599 };
};

/** Null turns it off; what is left out of an object is as by default. */
const readBreaker = (reader: JsonReader, input: unknown, path: string): BreakerSettings | null => {
  if (input === null) return null;
  const names = ["failureRate", "minCalls", "window", "probeEvery", "probes", "rampStartPerSec", "rampAddPerSec"];
  const fields = reader.object(input, path, names);
  const byDefault = defaultBreaker;
  const { callsMax, windowMinMs, windowMaxMs, probeEveryMinMs, probeEveryMaxMs, rateMin, rateMax } = policyLimits;
  const calls = (name: "minCalls" | "probes"): number =>
    reader.whole(fields[name], `${path}.${name}`, 1, callsMax, byDefault[name]);
  const rate = (name: "rampStartPerSec" | "rampAddPerSec"): number =>
    reader.number(fields[name], `${path}.${name}`, rateMin, rateMax, byDefault[name]);
  const { window, probeEvery } = fields;
  return {
    failureRate: reader.number(fields.failureRate, `${path}.failureRate`, 0.01, 1, byDefault.failureRate),
    minCalls: calls("minCalls"),
    windowMs: reader.duration(window, `${path}.window`, windowMinMs, windowMaxMs, byDefault.windowMs),
    probeEveryMs: reader.duration(
      probeEvery,
      `${path}.probeEvery`,
      probeEveryMinMs,
      probeEveryMaxMs,
      byDefault.probeEveryMs,
    ),
    probes: calls("probes"),
    rampStartPerSec: rate("rampStartPerSec"),
    rampAddPerSec: rate("rampAddPerSec"),
  };
};

const readBudget = (reader: JsonReader, input: unknown, path: string): BudgetSettings | null => {
  if (input === null) return null;
  const fields = reader.object(input, path, ["percent", "minPerSec"]);
  const percent = reader.number(fields.percent, `${path}.percent`, 0, 100, defaultBudget.percent);
  const minPerSec = reader.number(
    fields.minPerSec,
    `${path}.minPerSec`,
    0,
    policyLimits.rateMax,
    defaultBudget.minPerSec,
  );
  // While everything fails there are no successes to take a part of.
  if (fields.minPerSec === 0) {
    reader.refuse(`${path}.minPerSec`, "is 0: while nothing succeeds nothing would be tried again, for ever");
  }
  return { percent, minPerSec };
};

const readDead = (reader: JsonReader, input: unknown, path: string): DeadSettings => {
  const { topic, keep } = reader.object(input, path, ["topic", "keep"]);
  const { keepMinMs, ageMaxMs } = policyLimits;
  if (topic !== undefined && keep !== undefined) {
    reader.refuse(`${path}.keep`, "goes without a topic: what is sent there is not kept here");
  }
  if (topic !== undefined && !(typeof topic === "string" && topicPattern.test(topic))) {
    reader.refuse(`${path}.topic`, "is no name of a topic: RocketMQ allows 1 to 127 letters, digits, _ - % |");
  }
  return {
    ...(topic === undefined ? undefined : { topic: String(topic) }),
    ...(keep === undefined
      ? undefined
      : { keepMs: reader.duration(keep, `${path}.keep`, keepMinMs, ageMaxMs, ageMaxMs) }),
  };
};
