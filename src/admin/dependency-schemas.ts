import { Type } from "typebox";
import { defaultBreaker, defaultBudget } from "../retry/policy.ts";
import type { DependencyState } from "../wire/consumer-sync.ts";
import type { ForceDependencyRequest } from "../wire/dependencies.ts";
import { named, ref } from "./named-schema.ts";
import { duration } from "./request-schemas.ts";

/** The shapes of `wire/dependencies.ts` and `wire/consumer-sync.ts` as JSON Schema, for the API reference. */

const optional = Type.Optional;
const instant = (description: string) => Type.String({ format: "date-time", description });
const count = (description: string) => Type.Integer({ minimum: 0, description });
const rate = (description: string) => Type.Number({ minimum: 0, description });

const state = Type.Unsafe<DependencyState>({
  type: "string",
  enum: ["closed", "open", "probing", "ramping"] satisfies DependencyState[],
  description:
    "closed: well, calls go. open: calls are not made, messages are parked. probing: a few calls find out. ramping: more each second.",
});

const BreakerSchema = named(
  "Breaker",
  Type.Object(
    {
      failureRate: Type.Number({ description: "Opens when this part of the calls in the window failed." }),
      minCalls: Type.Integer({ description: "And there were at least so many." }),
      windowMs: Type.Integer(),
      probeEveryMs: Type.Integer({ description: "While open, so often…" }),
      probes: Type.Integer({ description: "…so many calls are let through." }),
      rampStartPerSec: Type.Number({ description: "Calls a second at the beginning of the way back." }),
      rampAddPerSec: Type.Number({ description: "How many more each second." }),
    },
    { description: "When a dependency is given up for a while, and how it comes back.", examples: [defaultBreaker] },
  ),
);

const BudgetSchema = named(
  "RetryBudget",
  Type.Object(
    {
      percent: Type.Number({ description: "Retries in percent of the successes." }),
      minPerSec: Type.Number({ description: "Retries a second that are always allowed." }),
    },
    { description: "How much of the calls may be retries.", examples: [defaultBudget] },
  ),
);

export const DependencyDetailsSchema = named(
  "DependencyDetails",
  Type.Object(
    {
      key: Type.String({ examples: ["acct:4711"] }),
      state,
      since: optional(instant("When that began.")),
      forced: optional(
        Type.Object(
          {
            state: Type.Unsafe<"open" | "closed">({ type: "string", enum: ["open", "closed"] }),
            since: instant("From when"),
            until: instant("to when."),
            reason: Type.String(),
          },
          { description: "An operator holds it so." },
        ),
      ),
      workers: count("Consumer processes that report it."),
      callsPerSec: rate("Measured over the last seconds, of all workers."),
      failedPerSec: rate("Of these, failed."),
      allowedPerSec: optional(rate("What all workers together may call now; absent: as much as they like.")),
      probesAt: optional(instant("When the next probes go.")),
      parked: count("Messages that wait until it is well again."),
      breaker: Type.Union([ref(BreakerSchema), Type.Null()]),
      budget: Type.Union([ref(BudgetSchema), Type.Null()]),
    },
    { description: "How a dependency of consumers is doing." },
  ),
);

export const DependencyPageSchema = named(
  "DependencyPage",
  Type.Object({
    items: Type.Array(ref(DependencyDetailsSchema)),
    cursor: optional(Type.String({ description: "Give it to get the next page. Absent on the last one." })),
  }),
);

export const ForceDependencyRequestSchema = named(
  "ForceDependencyRequest",
  Type.Object(
    {
      state: Type.Unsafe<ForceDependencyRequest["state"]>({
        type: "string",
        enum: ["open", "closed", "auto"] satisfies ForceDependencyRequest["state"][],
        description: "open: nothing is called. closed: everything is. auto: left to the breaker again.",
      }),
      for: optional(duration("For how long, at most 7 days. Needed for open and closed.")),
      reason: optional(
        Type.String({
          maxLength: 200,
          description: "Why, for those who look at it later. Needed for open and closed.",
        }),
      ),
    },
    { additionalProperties: false },
  ),
);

/** Between the consumers of this package and the service; told so that one can be written in another language. */
export const ConsumerSyncRequestSchema = named(
  "ConsumerSyncRequest",
  Type.Unsafe<object>({
    type: "object",
    required: ["worker", "group"],
    properties: {
      worker: { type: "string", description: "Unique for each process." },
      group: { type: "string" },
      topics: { type: "array", items: { type: "string" } },
      policiesTag: { type: "string", description: "Of the policies it has; unchanged ones are left out." },
      policy: { type: "string", description: "A policy by name instead of the bound ones." },
      versionsWanted: { type: "array", items: { type: "string" } },
      dependencies: {
        type: "array",
        items: { type: "object" },
        description:
          "For each key since the last report: succeeded, failed, retries, parked, deferred, breaker, budget.",
      },
      redriven: { type: "array", items: { type: "object" }, description: "What became of redriven messages." },
      heads: {
        type: "array",
        items: { type: "object" },
        description:
          "In blocking groups, messages given out before for an unknown reason: id, delivery, state (begins: its handler is about to run; answered).",
      },
    },
  }),
);

export const ConsumerSyncReplySchema = named(
  "ConsumerSyncReply",
  Type.Unsafe<object>({
    type: "object",
    additionalProperties: true,
    properties: {
      policies: { type: "object", additionalProperties: true },
      versions: { type: "array", items: { type: "object", additionalProperties: true } },
      dependencies: {
        type: "array",
        items: { type: "object", additionalProperties: true },
        description:
          "For each reported key what holds for this worker: state, callsPerSec, retriesPerSec, retryPercent.",
      },
      heads: {
        type: "array",
        items: { type: "object", additionalProperties: true },
        description: "For each that begins: crashes, how often it began in a row and nobody heard of it again.",
      },
    },
  }),
);

export const dependencySchemas = [
  BreakerSchema,
  BudgetSchema,
  DependencyDetailsSchema,
  DependencyPageSchema,
  ForceDependencyRequestSchema,
  ConsumerSyncRequestSchema,
  ConsumerSyncReplySchema,
] as const;
