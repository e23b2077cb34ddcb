import { Type } from "typebox";
import { defaultBreaker, defaultBudget, failureClasses, policyLimits } from "../retry/policy.ts";
import { presets } from "../retry/presets.ts";
import type { FailureClassInput, RetryDecisionKind } from "../wire/http.ts";
import { named, ref } from "./named-schema.ts";
import { duration } from "./request-schemas.ts";

/**
 * The shapes around retry policies in `wire/http.ts` once more, as JSON Schema for the API reference. They check
 * nothing: `retry/parse-policy.ts` does that, and tells every mistake at once.
 */

const optional = Type.Optional;
const oneOf = <const T extends string>(choices: readonly T[], description: string, byDefault?: T) =>
  Type.Unsafe<T>({
    type: "string",
    enum: [...choices],
    description,
    ...(byDefault === undefined ? undefined : { default: byDefault }),
  });
const whole = (description: string, byDefault: number) =>
  Type.Integer({ minimum: 1, maximum: policyLimits.attemptsMax, default: byDefault, description });
const instant = (description: string) =>
  Type.Union([Type.String({ format: "date-time" }), Type.Integer({ minimum: 100_000_000_000 })], { description });
export const failureClass = (description: string, byDefault?: FailureClassInput) =>
  oneOf<FailureClassInput>(failureClasses, description, byDefault);

const BackoffSchema = named(
  "Backoff",
  Type.Object(
    {
      kind: optional(
        oneOf(
          ["fixed", "list", "linear", "exponential", "decorrelated"],
          "fixed: delay. list: delays. linear: base, increment, cap. exponential: base, factor, cap. decorrelated: from the base to factor times the wait before, at most the cap.",
          "exponential",
        ),
      ),
      delay: optional(duration("Every wait of `fixed`.")),
      delays: optional(
        Type.Array(duration("One wait."), {
          maxItems: policyLimits.listMax,
          description: "The waits of `list`; the last one stands for all that follow.",
        }),
      ),
      base: optional(duration("The first wait. Default 1 s.")),
      increment: optional(duration("What `linear` adds for every failure. Default: the base.")),
      factor: optional(
        Type.Number({
          minimum: 1,
          maximum: policyLimits.factorMax,
          description: "Growth. Default 2 for exponential, 3 for decorrelated.",
        }),
      ),
      cap: optional(duration("The longest wait. Default 30 min.")),
      jitter: optional(
        oneOf(
          ["none", "full", "equal"],
          "none: exactly the wait. full: from nothing to the wait. equal: from half of it to all of it.",
          "equal",
        ),
      ),
    },
    { additionalProperties: false, description: "How long to wait after a failure: 10 ms to 30 days." },
  ),
);

const LimitsSchema = Type.Object(
  {
    maxAttempts: optional(whole("Attempts in all, the first one included.", 80)),
    maxAge: optional(
      Type.Union([Type.String({ examples: ["24h"] }), Type.Integer({ minimum: 1_000 }), Type.Null()], {
        description:
          "From the first failure, time spent parked not counted; null for no limit. A duration from 1 s to 365 days. Default 24 h.",
      }),
    ),
    deadline: optional(instant("Nothing is tried after this instant.")),
    maxCrashes: optional(whole("Attempts that ended without an outcome.", 3)),
  },
  { additionalProperties: false, description: "When to stop; the first limit that is reached holds." },
);

const RuleSchema = Type.Object(
  {
    when: Type.Object(
      {
        class: optional(failureClass("The class of the failure.")),
        code: optional(
          Type.String({
            description: "A code, or the beginning of one with * at the end.",
            examples: ["http_404", "db_*"],
          }),
        ),
        status: optional(
          Type.Union([Type.Integer({ minimum: 100, maximum: 599 }), Type.String({ examples: ["5xx"] })], {
            description: 'An HTTP status, or such as "5xx" for a hundred of them.',
          }),
        ),
        fromAttempt: optional(whole("From the failure of this attempt on: a slow tier after a fast one.", 1)),
      },
      { additionalProperties: false, description: "At least one; all that are given must fit." },
    ),
    action: oneOf(
      ["retry", "dead", "park", "verify"],
      "park: wait until the key is open again. verify: find out first whether it took effect.",
    ),
    backoff: optional(ref(BackoffSchema)),
    key: optional(Type.String({ description: "With park: what is opened again one day." })),
  },
  { additionalProperties: false },
);

const { callsMax, rateMin, rateMax } = policyLimits;
const calls = (description: string, byDefault: number) =>
  Type.Integer({ minimum: 1, maximum: callsMax, default: byDefault, description });
const rate = (description: string, minimum: number, byDefault: number) =>
  Type.Number({ minimum, maximum: rateMax, default: byDefault, description });

const BreakerSchema = Type.Object(
  {
    failureRate: optional(
      Type.Number({
        minimum: 0.01,
        maximum: 1,
        default: defaultBreaker.failureRate,
        description: "Opens when this part of the calls in the window failed …",
      }),
    ),
    minCalls: optional(calls("… and there were at least so many.", defaultBreaker.minCalls)),
    window: optional(duration("1 s to 10 min. Default 10 s.")),
    probeEvery: optional(duration("While open, so often …: 1 s to 1 h. Default 10 s.")),
    probes: optional(calls("… so many calls are let through, of all workers together.", defaultBreaker.probes)),
    rampStartPerSec: optional(
      rate("Calls a second at the beginning of the way back …", rateMin, defaultBreaker.rampStartPerSec),
    ),
    rampAddPerSec: optional(rate("… and how many more each second.", rateMin, defaultBreaker.rampAddPerSec)),
  },
  { additionalProperties: false },
);

const BudgetSchema = Type.Object(
  {
    percent: optional(
      Type.Number({ minimum: 0, maximum: 100, default: defaultBudget.percent, description: "Of the successes." }),
    ),
    minPerSec: optional(
      rate(
        "Retries a second that are always allowed, of all workers together; more than 0.",
        0,
        defaultBudget.minPerSec,
      ),
    ),
  },
  { additionalProperties: false },
);

const DeadSchema = Type.Object(
  {
    topic: optional(Type.String({ description: "Delivered to this topic instead of being kept." })),
    keep: optional(duration("Kept for so long: 1 min to 365 days. Without it until somebody removes them.")),
  },
  { additionalProperties: false, description: "Where the dead go; one of the two or neither." },
);

export const RetryPolicySchema = named(
  "RetryPolicy",
  Type.Object(
    {
      backoff: optional(ref(BackoffSchema)),
      limits: optional(LimitsSchema),
      rules: optional(
        Type.Array(RuleSchema, {
          maxItems: policyLimits.rulesMax,
          description: "The first that fits decides. Without one, what is permanent is dead and all else is retried.",
        }),
      ),
      breaker: optional(
        Type.Union([BreakerSchema, Type.Null()], {
          description: "When calls of a dependency are given up for a while; null for never.",
        }),
      ),
      budget: optional(
        Type.Union([BudgetSchema, Type.Null()], {
          description: "How many of a dependency's calls may be retries; null for as many as like.",
        }),
      ),
      dead: optional(DeadSchema),
      inFlight: optional(
        oneOf(
          ["adopt", "keep"],
          "What becomes of messages that already failed under an older version: they adopt this one, or keep theirs.",
          "adopt",
        ),
      ),
    },
    { additionalProperties: false, description: "What is left out is as in the preset default." },
  ),
);

export const SimulateRetriesRequestSchema = named(
  "SimulateRetriesRequest",
  Type.Object(
    {
      policy: optional(ref(RetryPolicySchema)),
      preset: optional(
        Type.String({
          description: `Instead of a policy one with a name: ${presets.map(({ name }) => name).join(", ")}.`,
          examples: ["rocketmq-ladder"],
        }),
      ),
      error: optional(
        Type.Object(
          {
            class: optional(failureClass("What kind of failure.", "transient")),
            code: optional(Type.String({ examples: ["http_503"] })),
            status: optional(Type.Integer({ minimum: 100, maximum: 599 })),
            retryAfter: optional(duration("How long the other side asks to be left alone.")),
          },
          { additionalProperties: false, description: "What goes on failing. A code http_503 is the status 503 too." },
        ),
      ),
      attempts: optional(whole("How many attempts to list.", 100)),
      firstFailedAt: optional(instant("When it failed first; needed where the policy has a deadline.")),
    },
    { additionalProperties: false },
  ),
);

const decision = oneOf<RetryDecisionKind>(["retry", "dead", "park", "verify"], "What becomes of it.");
const span = (description: string) =>
  Type.Object({ minMs: Type.Integer(), meanMs: Type.Integer(), maxMs: Type.Integer() }, { description });

const RetryEndSchema = named(
  "RetryEnd",
  Type.Object({
    decision,
    code: optional(
      Type.String({ description: "When dead: the limit, the class or the rule.", examples: ["age_exhausted"] }),
    ),
    attempt: Type.Integer({ description: "The attempt whose failure was the last." }),
    afterMs: Type.Integer({ description: "How long after the first failure that is." }),
    text: Type.String({ description: "Why, for people." }),
  }),
);

export const SimulateRetriesReplySchema = named(
  "SimulateRetriesReply",
  Type.Object(
    {
      attempts: Type.Array(
        Type.Object({
          attempt: Type.Integer(),
          decision,
          certain: Type.Boolean({
            description: "False where it depends on the waits: then it is what holds for waits of mean length.",
          }),
          text: Type.String({ description: "Why, for people." }),
          waitMs: optional(span("Until the next attempt.")),
          sinceFirstMs: optional(span("From the first failure to the next attempt.")),
        }),
      ),
      attemptsLeftOut: Type.Integer({ description: "How many more there would be." }),
      fewestAttempts: ref(RetryEndSchema),
      typically: ref(RetryEndSchema),
      mostAttempts: ref(RetryEndSchema),
      besides: Type.Array(Type.String(), {
        description: "What else the policy says, as sentences: breaker, budget, the dead, messages in flight.",
      }),
    },
    {
      description:
        "What becomes of something that goes on failing like this, and what ends it with the longest, the mean and the shortest waits. Attempts are taken to last no time.",
    },
  ),
);

/** Added to the app under their `$id`, and listed in the reference under it. */
export const retrySchemas = [
  BackoffSchema,
  RetryPolicySchema,
  SimulateRetriesRequestSchema,
  RetryEndSchema,
  SimulateRetriesReplySchema,
] as const;
