import { type DurationMs, epochMs, epochMsMax } from "../message/time.ts";
import type { Failure } from "./decide.ts";
import { type Explanation, explain } from "./explain.ts";
import { JsonReader } from "./json-reader.ts";
import { readPolicy } from "./parse-policy.ts";
import { failureClasses, policyLimits, type RetryPolicy } from "./policy.ts";
import { presets } from "./presets.ts";

/**
 * The question "what would this policy do about this error?" as the HTTP API and the command line ask it: from JSON to
 * an explanation. Throws `invalid_field` with every mistake.
 */
export const simulateRetries = (request: unknown): Explanation => {
  const reader = new JsonReader();
  const fields = reader.object(request, "request", ["policy", "preset", ...questionNames]);
  return answer(reader, policyFrom(reader, fields.policy, fields.preset), fields);
};

/** The same about a policy that is there already. */
export const simulatePolicy = (policy: RetryPolicy, request: unknown): Explanation => {
  const reader = new JsonReader();
  return answer(reader, policy, reader.object(request, "request", questionNames));
};

const questionNames = ["error", "attempts", "firstFailedAt"];

const answer = (reader: JsonReader, policy: RetryPolicy, fields: Readonly<Record<string, unknown>>): Explanation => {
  const failure = failureFrom(reader, fields.error ?? {}, "error");
  const attempts = reader.whole(fields.attempts, "attempts", 1, policyLimits.attemptsMax, attemptsShownDefault);
  const firstFailedAtMs = reader.instant(fields.firstFailedAt, "firstFailedAt");
  if (policy.limits.deadlineMs !== undefined && fields.firstFailedAt === undefined) {
    reader.refuse("firstFailedAt", "is missing; what a deadline leaves depends on it");
  }
  reader.finish();
  return explain(policy, failure, firstFailedAtMs ?? epochMs(0), attempts);
};

/** A page; whoever wants all asks for them. */
const attemptsShownDefault = 100;

const policyFrom = (reader: JsonReader, policy: unknown, name: unknown): RetryPolicy => {
  const byDefault = presets[0]!.policy;
  if (policy !== undefined) {
    if (name !== undefined) reader.refuse("preset", "and policy exclude each other; give one");
    return readPolicy(reader, policy, "policy");
  }
  if (name === undefined) return byDefault;
  const preset = presets.find((candidate) => candidate.name === name);
  if (preset === undefined) reader.refuse("preset", `must be one of ${presets.map((one) => one.name).join(", ")}`);
  return preset?.policy ?? byDefault;
};

/** Without a class it is a transient error. A code such as `http_503` is its status too, and the other way round. */
const failureFrom = (reader: JsonReader, input: unknown, path: string): Failure => {
  const fields = reader.object(input, path, ["class", "code", "status", "retryAfter"]);
  const failureClass = reader.choice(fields.class, `${path}.class`, failureClasses, "transient");
  const statusGiven = reader.whole(fields.status, `${path}.status`, 100, 599, 0);
  const code = reader.text(
    fields.code,
    `${path}.code`,
    policyLimits.textMax,
    statusGiven === 0 ? failureClass : `http_${statusGiven}`,
  );
  const status = statusGiven === 0 ? Number(/^http_([1-5]\d\d)$/.exec(code)?.[1] ?? 0) : statusGiven;
  const retryAfterMs = reader.duration(
    fields.retryAfter,
    `${path}.retryAfter`,
    0 as DurationMs,
    epochMsMax as number as DurationMs,
    0 as DurationMs,
  );
  return {
    class: failureClass,
    code,
    ...(status === 0 ? undefined : { status }),
    ...(fields.retryAfter === undefined ? undefined : { retryAfterMs }),
  };
};
