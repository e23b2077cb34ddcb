import { Type } from "typebox";
import type { HealthReply, MessageState } from "../wire/http.ts";
import { named, ref, textMap } from "./named-schema.ts";

/**
 * The replies of `wire/http.ts` once more, as JSON Schema: for the API reference, and for writing replies fast. A test
 * holds them to the wire types, so that neither changes alone.
 */

const exampleId = "01a3185c-8a00-7c11-9d2e-5b7f0c3a91e4";

const state = Type.Unsafe<MessageState>({
  type: "string",
  enum: ["scheduled", "claimed", "delivered", "dead", "canceled", "expired"] satisfies MessageState[],
  description:
    "scheduled: waits for its time. claimed: is being sent. delivered: the broker has it. dead: not deliverable, with a reason. canceled, expired: never sent.",
});
const instant = (description: string) =>
  Type.String({ format: "date-time", description, examples: ["2030-01-01T01:00:00.000Z"] });
const id = Type.String({ format: "uuid", description: "The message's id.", examples: [exampleId] });
const attempt = Type.Integer({ minimum: 0, description: "Sends taken so far." });

const RetryDetailsSchema = Type.Object(
  {
    group: Type.String({ description: "The consumer group that gave it up." }),
    originTopic: Type.String({ description: "Where the group received it." }),
    originId: Type.String(),
    originBornAt: instant("When it was sent there."),
    attempts: Type.Integer({ minimum: 0, description: "Attempts of its consumer." }),
    crashes: Type.Integer({ minimum: 0, description: "Of these, how many ended without an outcome." }),
    firstFailedAt: Type.Optional(instant("When it failed first.")),
    policy: Type.String({ description: "The policy that decided last.", examples: ["default@3"] }),
    replays: Type.Integer({ minimum: 0, description: "Times it was brought back from the dead." }),
    history: Type.Array(
      Type.Object({
        attempt: Type.Integer(),
        at: instant("When."),
        class: Type.String({ examples: ["transient"] }),
        code: Type.String({ examples: ["ECONNREFUSED"] }),
        fingerprint: Type.String({ description: "Equal for failures of one cause." }),
        text: Type.String(),
      }),
      { description: "The first failure and the last ones, oldest first." },
    ),
  },
  { description: "What its consumer wrote with it, where a consumer gave it up." },
);

export const MessageReplySchema = named(
  "MessageReply",
  Type.Object(
    {
      id,
      state,
      deliverAt: instant("When it is (or was) due; after a failed send, the next try."),
      attempt,
      deduplicated: Type.Boolean({ description: "True when the key was known and the first message was kept." }),
    },
    { description: "What holds for the message now." },
  ),
);

export const MessageDetailsSchema = named(
  "MessageDetails",
  Type.Object(
    {
      id,
      state,
      deliverAt: instant("When it is (or was) due; after a failed send, the next try."),
      attempt,
      endedAt: Type.Optional(instant("When it was delivered, died, was canceled or expired.")),
      reason: Type.Optional(
        Type.Object(
          { code: Type.String({ examples: ["topic_not_found"] }), detail: Type.String() },
          { description: "Why it is dead." },
        ),
      ),
      parkedFor: Type.Optional(
        Type.String({
          description: "The dependency that it is parked for; deliverAt is then when it comes out at the latest.",
          examples: ["acct:4711"],
        }),
      ),
      parkedSince: Type.Optional(instant("When it was parked.")),
      key: Type.Optional(Type.String()),
      topic: Type.Optional(Type.String()),
      tag: Type.Optional(Type.String()),
      keys: Type.Optional(Type.Array(Type.String())),
      properties: Type.Optional(textMap("User properties.", { color: "red" })),
      messageGroup: Type.Optional(Type.String()),
      acceptedAt: Type.Optional(instant("When it was accepted.")),
      expireAt: Type.Optional(instant("It is not delivered later than this.")),
      bodyBytes: Type.Optional(Type.Integer({ minimum: 1, description: "The size of the body." })),
      bodyBase64: Type.Optional(
        Type.String({ contentEncoding: "base64", description: "The body; only when asked for with body=true." }),
      ),
      retry: Type.Optional(RetryDetailsSchema),
    },
    {
      description:
        "What is known of a message. Once it was delivered, canceled or has expired, only id, state, deliverAt, attempt and endedAt stay, for the dedupe window.",
    },
  ),
);

export const ProblemSchema = named(
  "Problem",
  Type.Object(
    {
      type: Type.String({ description: "A URN made of the code.", examples: ["urn:escapement:error:delay_too_long"] }),
      title: Type.String({ description: "The code in words." }),
      status: Type.Integer({ description: "The HTTP status; in a batch, the status this item alone would have had." }),
      code: Type.String({ description: "Stable; programs decide by it.", examples: ["delay_too_long"] }),
      detail: Type.String({ description: "What to change, or what will happen." }),
      field: Type.Optional(
        Type.String({ description: "The field at fault.", examples: ["properties.color", "keys[2]"] }),
      ),
    },
    { description: "An error (RFC 9457)." },
  ),
);

const index = Type.Integer({ minimum: 0, description: "Which item of the request, counted from 0." });
export const BatchItemReplySchema = named(
  "BatchItemReply",
  Type.Union(
    [Type.Object({ index, message: ref(MessageReplySchema) }), Type.Object({ index, error: ref(ProblemSchema) })],
    { description: "The result of one item: the message or the error." },
  ),
);

export const BatchReplySchema = named(
  "BatchReply",
  Type.Object({
    accepted: Type.Integer({ minimum: 0 }),
    rejected: Type.Integer({ minimum: 0 }),
    results: Type.Array(ref(BatchItemReplySchema), { description: "One result per item, in order." }),
  }),
);

const count = (description: string) => Type.Integer({ minimum: 0, description });
export const StatsReplySchema = named(
  "StatsReply",
  Type.Object({
    node: Type.String({ description: "The process that answers." }),
    time: instant("Its clock."),
    waiting: Type.Object({
      total: count("Messages waiting for their time."),
      byTopic: Type.Unsafe<Record<string, number>>({
        type: "object",
        additionalProperties: { type: "integer" },
        description: "The same by target topic.",
        examples: [{ orders: 12_408 }],
      }),
    }),
    parked: Type.Object({
      total: count("Of those that wait: parked until their dependency is well again."),
      byDependency: Type.Unsafe<Record<string, number>>({
        type: "object",
        additionalProperties: { type: "integer" },
        description: "The same by dependency.",
        examples: [{ "acct:4711": 8_000 }],
      }),
    }),
    dueNow: count("Waiting messages whose time has come."),
    claimed: count("Messages being sent."),
    dead: count("Dead messages, kept until someone decides."),
    duePerMinute: Type.Array(Type.Integer(), { description: "Due in each of the next 60 minutes." }),
    duePerHour: Type.Array(Type.Integer(), { description: "Due in each of the next 24 hours." }),
    lateness: Type.Object(
      {
        count: Type.Integer(),
        p50Ms: Type.Number(),
        p99Ms: Type.Number(),
        maxMs: Type.Number(),
      },
      { description: "Dispatch instant minus due time, of this process over the last minute." },
    ),
    shards: Type.Array(
      Type.Object({ shard: Type.Integer(), owner: Type.Optional(Type.String()), epoch: Type.Integer() }),
      { description: "Who sends which slice of the messages." },
    ),
    members: Type.Array(Type.String(), { description: "The living processes." }),
  }),
);

export const HealthReplySchema = named(
  "HealthReply",
  Type.Object({
    status: Type.Unsafe<HealthReply["status"]>({ type: "string", enum: ["ok", "degraded", "stopping"] }),
    problems: Type.Array(Type.Object({ code: Type.String(), detail: Type.String() }), {
      description: "Why not ok, as sentences.",
    }),
  }),
);

/** Added to the app under their `$id`, and listed in the reference under it. */
export const ConsumerGroupReplySchema = named(
  "ConsumerGroupReply",
  Type.Object(
    {
      group: Type.String(),
      retryTopic: Type.String({ description: "Where failed messages come back to the group." }),
      ingestTopic: Type.String({ description: "Where consumers hand them over." }),
    },
    { description: "A consumer group that is ready for retries." },
  ),
);

export const replySchemas = [
  ConsumerGroupReplySchema,
  MessageReplySchema,
  MessageDetailsSchema,
  ProblemSchema,
  BatchItemReplySchema,
  BatchReplySchema,
  StatsReplySchema,
  HealthReplySchema,
] as const;
