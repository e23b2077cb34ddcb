import { Type } from "typebox";
import type { PolicyVersionsReply } from "../wire/http.ts";
import { named, ref } from "./named-schema.ts";
import { failureClass, RetryPolicySchema } from "./retry-schemas.ts";

/** The shapes of stored retry policies, bindings and replays in `wire/http.ts`, as JSON Schema for the API reference. */

const optional = Type.Optional;
const name = Type.String({ description: "The name of the policy." });
const who = {
  at: optional(Type.String({ format: "date-time", description: "When it was written." })),
  by: optional(Type.String({ description: "Who did, as they said." })),
  why: optional(Type.String()),
};
const version = Type.Integer({ minimum: 0, description: "From 1; presets have 0." });

export const PutPolicyRequestSchema = named(
  "PutPolicyRequest",
  Type.Object(
    {
      policy: ref(RetryPolicySchema),
      ifVersion: optional(
        Type.Integer({
          minimum: 0,
          description: "The version that you have seen; 0 when there must be none. Left out: whatever there is.",
        }),
      ),
      by: optional(Type.String({ maxLength: 128, description: "Who changes it, as you say yourself." })),
      why: optional(Type.String({ maxLength: 500, description: "Kept with the version." })),
    },
    { additionalProperties: false },
  ),
);

const policyFields = {
  name,
  version,
  policy: Type.Union([ref(RetryPolicySchema), Type.Null()], {
    description: "As it was written; null in the version that deleted it.",
  }),
  latest: Type.Integer({ description: "The newest version." }),
  preset: Type.Boolean({ description: "It comes with the program and cannot be changed." }),
  deleted: Type.Boolean({ description: "There is none of that name any more; its versions stay readable." }),
  ...who,
};

export const PolicyReplySchema = named("PolicyReply", Type.Object(policyFields));

export const PutPolicyReplySchema = named(
  "PutPolicyReply",
  Type.Object({
    ...policyFields,
    changed: Type.Boolean({ description: "False when it was so already: then there is no new version." }),
  }),
);

export const PolicyListReplySchema = named(
  "PolicyListReply",
  Type.Object({
    policies: Type.Array(
      Type.Object({
        name,
        version,
        preset: Type.Boolean(),
        bindings: Type.Integer({ description: "In how many places it is bound." }),
        deadTopic: optional(Type.String({ description: "Where it sends the dead." })),
        summary: optional(Type.String({ description: "Of presets: what they are." })),
      }),
    ),
  }),
);

export const PolicyVersionsReplySchema = named(
  "PolicyVersionsReply",
  Type.Object({
    name,
    versions: Type.Unsafe<PolicyVersionsReply["versions"]>(
      Type.Array(
        Type.Object({
          version,
          deleted: Type.Boolean({ description: "This version deleted the policy." }),
          ...who,
          at: Type.String({ format: "date-time" }),
        }),
        { description: "Newest first." },
      ),
    ),
    more: Type.Boolean({ description: "Older ones follow: ask again with before = the last version of these." }),
  }),
);

const place = {
  topic: optional(Type.String({ description: "Messages of this topic. Left out: of every topic." })),
  group: optional(Type.String({ description: "For this consumer group. Left out: for all, and for our own sends." })),
  tag: optional(Type.String({ description: "With this tag. Left out: with any or none." })),
};

export const RetryBindingSchema = named(
  "RetryBinding",
  Type.Object(
    { ...place, policy: name },
    { additionalProperties: false, description: "All that are given must fit; with none it is for everything." },
  ),
);

export const DeletePolicyReplySchema = named(
  "DeletePolicyReply",
  Type.Object({
    name,
    version: Type.Integer({ description: "The version that says it is deleted." }),
    bindingsRemoved: Type.Array(ref(RetryBindingSchema)),
  }),
);

export const RetryBindingsReplySchema = named(
  "RetryBindingsReply",
  Type.Object({
    bindings: Type.Array(ref(RetryBindingSchema), {
      description: "The most special first; the first that fits a message holds.",
    }),
  }),
);

// --- replay -------------------------------------------------------------------------------------------------------

const count = (description: string) => Type.Integer({ description });

export const RecordedFailureSchema = named(
  "RecordedFailure",
  Type.Object(
    {
      message: Type.String({ maxLength: 256, description: "What the failures of one message have in common." }),
      atMs: Type.Integer({ minimum: 100_000_000_000, description: "When, in epoch milliseconds." }),
      class: optional(failureClass("What kind of failure.", "transient")),
      code: optional(Type.String({ examples: ["http_503"] })),
      status: optional(Type.Integer({ minimum: 100, maximum: 599 })),
      retryAfterMs: optional(Type.Integer({ minimum: 0, description: "How long the other side asked for." })),
      attempt: optional(
        Type.Integer({ minimum: 1, description: "Which attempt it was. Default 1; a message's first one counts." }),
      ),
      succeededAtMs: optional(Type.Integer({ description: "When the message succeeded in the end." })),
    },
    { additionalProperties: false },
  ),
);

export const ReplayRetriesRequestSchema = named(
  "ReplayRetriesRequest",
  Type.Object(
    {
      failures: Type.Array(ref(RecordedFailureSchema), { maxItems: 50_000 }),
      candidate: optional(ref(RetryPolicySchema)),
      against: optional(Type.String({ description: "Another policy, name or name@version, to compare with." })),
      seed: optional(Type.Integer({ minimum: 0, default: 1, description: "The same seed gives the same answer." })),
      messages: optional(Type.Boolean({ default: false, description: "Also what became of each message." })),
    },
    { additionalProperties: false },
  ),
);

const totals = {
  messages: Type.Integer(),
  calls: count("Attempts of all messages, the recorded first ones included."),
  mostCallsPerSec: Type.Integer(),
  succeeded: Type.Integer(),
  dead: Type.Integer(),
  deadByCode: Type.Record(Type.String(), Type.Integer()),
  parked: count("They end where they are parked: no record says who opens the key."),
  toVerify: Type.Integer(),
  delayMs: Type.Object(
    { p50: Type.Number(), p99: Type.Number(), max: Type.Number() },
    { description: "From the first failure to the success, of those that succeeded." },
  ),
};

export const ReplayRetriesReplySchema = named(
  "ReplayRetriesReply",
  Type.Object({
    recorded: Type.Object(totals, { description: "As it really was; messages without a success are counted as dead." }),
    results: Type.Array(
      Type.Object({
        ...totals,
        policy: Type.String({ description: "name@version, or candidate." }),
        perMessage: optional(
          Type.Array(
            Type.Object({
              message: Type.String(),
              outcome: Type.Union([
                Type.Literal("succeeded"),
                Type.Literal("dead"),
                Type.Literal("park"),
                Type.Literal("verify"),
              ]),
              code: optional(Type.String()),
              calls: Type.Integer(),
              afterMs: Type.Integer(),
            }),
          ),
        ),
      }),
    ),
  }),
);

/** Added to the app under their `$id`, and listed in the reference under it. */
export const policySchemas = [
  PutPolicyRequestSchema,
  PolicyReplySchema,
  PutPolicyReplySchema,
  PolicyListReplySchema,
  PolicyVersionsReplySchema,
  RetryBindingSchema,
  DeletePolicyReplySchema,
  RetryBindingsReplySchema,
  RecordedFailureSchema,
  ReplayRetriesRequestSchema,
  ReplayRetriesReplySchema,
] as const;
