import { parkedMaxMs } from "../message/bay.ts";
import { type EpochMs, second } from "../message/time.ts";
import { envelopeLimits } from "../retry/envelope-codec.ts";
import { JsonReader } from "../retry/json-reader.ts";
import { defaultBreaker, defaultBudget } from "../retry/policy.ts";
import type { BreakerInput, ConsumerSyncRequest, DependencyReport } from "../wire/consumer-sync.ts";
import { isDependencyKey } from "./parking.port.ts";
import type { Forced } from "./shared-breaker.ts";

/** What consumers and operators send, checked: nothing else of it is believed, and every mistake is told. */

const nameMax = 128;
const topicsMax = 256;
/** As many as a guard sends at once, with room for other writers of consumers. */
const reportsMax = 5_000;
const versionsMax = 1_000;
const redrivenMax = 10_000;
const headsMax = 1_000;
/** A worker that claims more of one second is mistaken, and must not tip the scales for all others. */
const countMax = 10_000_000;
const dayMs = 86_400_000;
const forMinMs = second;

const fields = [
  "worker",
  "group",
  "topics",
  "policiesTag",
  "policy",
  "versionsWanted",
  "dependencies",
  "redriven",
  "heads",
];

export const readSync = (input: unknown): ConsumerSyncRequest => {
  const reader = new JsonReader();
  const given = reader.object(input, "sync", fields);
  const text = (value: unknown, path: string): string => reader.text(value, path, nameMax, "");
  const needed = (name: string): string => {
    if (given[name] === undefined) reader.refuse(name, "is missing");
    return text(given[name], name);
  };
  const texts = (value: unknown, path: string, max: number): string[] =>
    reader.array(value, path, max).map((item, i) => text(item, `${path}[${i}]`));
  const request: ConsumerSyncRequest = {
    worker: needed("worker"),
    group: needed("group"),
    topics: texts(given.topics ?? [], "topics", topicsMax),
    ...(given.policiesTag === undefined ? undefined : { policiesTag: text(given.policiesTag, "policiesTag") }),
    ...(given.policy === undefined ? undefined : { policy: text(given.policy, "policy") }),
    ...(given.versionsWanted === undefined
      ? undefined
      : { versionsWanted: texts(given.versionsWanted, "versionsWanted", versionsMax) }),
    dependencies: reader
      .array(given.dependencies ?? [], "dependencies", reportsMax)
      .map((report, i) => readReport(reader, report, `dependencies[${i}]`)),
    ...(given.redriven === undefined ? undefined : { redriven: readRedriven(reader, given.redriven) }),
    ...(given.heads === undefined ? undefined : { heads: readHeads(reader, given.heads) }),
  };
  reader.finish();
  return request;
};

const reportFields = ["key", "succeeded", "failed", "retries", "parked", "deferred", "breaker", "budget"];
const breakerFields = Object.keys(defaultBreaker);

const readReport = (reader: JsonReader, input: unknown, path: string): DependencyReport => {
  const given = reader.object(input, path, reportFields);
  if (typeof given.key !== "string" || !isDependencyKey(given.key)) {
    reader.refuse(`${path}.key`, "must be a text of 1 to 128 characters without control characters");
  }
  const count = (name: string): number => reader.whole(given[name], `${path}.${name}`, 0, countMax, 0);
  const { breaker, budget } = given;
  return {
    key: String(given.key),
    succeeded: count("succeeded"),
    failed: count("failed"),
    retries: count("retries"),
    parked: count("parked"),
    deferred: count("deferred"),
    ...(breaker === undefined
      ? undefined
      : { breaker: breaker === null ? null : readBreaker(reader, breaker, `${path}.breaker`) }),
    ...(budget === undefined
      ? undefined
      : { budget: budget === null ? null : readBudget(reader, budget, `${path}.budget`) }),
  };
};

const readBreaker = (reader: JsonReader, input: unknown, path: string): BreakerInput => {
  const given = reader.object(input, path, breakerFields);
  const number = (name: keyof BreakerInput, min: number, max: number): number =>
    reader.number(given[name], `${path}.${name}`, min, max, defaultBreaker[name]);
  return {
    failureRate: number("failureRate", 0.01, 1),
    minCalls: number("minCalls", 1, 100_000),
    windowMs: number("windowMs", 100, dayMs),
    probeEveryMs: number("probeEveryMs", 100, dayMs),
    probes: number("probes", 1, 100_000),
    rampStartPerSec: number("rampStartPerSec", 0.01, 1_000_000),
    rampAddPerSec: number("rampAddPerSec", 0.01, 1_000_000),
  };
};

const readBudget = (reader: JsonReader, input: unknown, path: string) => {
  const given = reader.object(input, path, ["percent", "minPerSec"]);
  return {
    percent: reader.number(given.percent, `${path}.percent`, 0, 1_000, defaultBudget.percent),
    minPerSec: reader.number(given.minPerSec, `${path}.minPerSec`, 0, 1_000_000, defaultBudget.minPerSec),
  };
};

const readRedriven = (reader: JsonReader, input: unknown): NonNullable<ConsumerSyncRequest["redriven"]> =>
  reader.array(input, "redriven", redrivenMax).map((one, i) => {
    const path = `redriven[${i}]`;
    const { job, message, outcome } = reader.object(one, path, ["job", "message", "outcome"]);
    return {
      job: reader.text(job, `${path}.job`, nameMax, ""),
      message: reader.text(message, `${path}.message`, nameMax, ""),
      outcome: reader.choice(outcome, `${path}.outcome`, ["succeeded", "failed", "dead"] as const, "failed"),
    };
  });

const readHeads = (reader: JsonReader, input: unknown): NonNullable<ConsumerSyncRequest["heads"]> =>
  reader.array(input, "heads", headsMax).map((one, i) => {
    const path = `heads[${i}]`;
    const { id, delivery, state } = reader.object(one, path, ["id", "delivery", "state"]);
    return {
      id: reader.text(id, `${path}.id`, envelopeLimits.originIdMax, ""),
      delivery: reader.whole(delivery, `${path}.delivery`, 1, countMax, 1),
      state: reader.choice(state, `${path}.state`, ["begins", "answered"] as const, "begins"),
    };
  });

/** Undefined: it is left to its breaker again. */
export const readForce = (input: unknown, nowMs: EpochMs): Forced | undefined => {
  const reader = new JsonReader();
  const given = reader.object(input, "force", ["state", "for", "reason"]);
  if (given.state === undefined) reader.refuse("state", "is missing: open, closed or auto");
  const state = reader.choice(given.state, "state", ["open", "closed", "auto"] as const, "auto");
  const forMs = reader.duration(given.for, "for", forMinMs, parkedMaxMs, second);
  if (state === "auto") {
    reader.finish();
    return undefined;
  }
  // Without an end it would be forgotten, and hold the dependency for ever.
  if (given.for === undefined) reader.refuse("for", 'is missing: say for how long, such as "30m", at most 7 days');
  const reason = typeof given.reason === "string" ? given.reason.trim() : "";
  if (
    reason === "" ||
    reason.length > reasonMax ||
    /[\u0000-\u001f\u007f-\u009f]/.test(reason) ||
    !reason.isWellFormed()
  ) {
    reader.refuse("reason", `must say why, in 1 to ${reasonMax} characters on one line`);
  }
  reader.finish();
  return { state, sinceMs: nowMs, untilMs: nowMs + forMs, reason };
};
const reasonMax = 200;
