import { Type } from "typebox";
import type { RedriveState } from "../wire/dead.ts";
import { named, ref, textMap } from "./named-schema.ts";
import { MessageDetailsSchema } from "./reply-schemas.ts";
import { duration } from "./request-schemas.ts";

/** The shapes of `wire/dead.ts` once more, as JSON Schema for the API reference. They check nothing: src/dead does. */

const optional = Type.Optional;
const instant = (description: string) => Type.String({ format: "date-time", description });
const instantInput = (description: string) =>
  Type.Union([Type.String({ format: "date-time" }), Type.Integer({ minimum: 100_000_000_000 })], { description });
const number = (description: string) => Type.Integer({ minimum: 0, description });

/** What every bounded look answers. */
const looked = {
  scanned: number("How many of the dead were looked at."),
  complete: Type.Boolean({ description: "False: there is more to look at, go on with the cursor." }),
  cursor: optional(Type.String({ description: "Give it to go on. Absent when everything was looked at." })),
};
const cursor = optional(Type.String({ description: "Give it to get the next page. Absent on the last one." }));

const filterFields = {
  topic: "The topic it was meant for, or came from.",
  group: "The consumer group that gave it up.",
  fingerprint: "The fingerprint of its last failure.",
  code: "Why it is dead, or the code of its last failure.",
  text: "Stands in the reason, a failure's text, the key, the keys or an id; capitals make no difference.",
} as const;

export const DeadFilterSchema = named(
  "DeadFilter",
  Type.Object(
    {
      topic: optional(Type.String({ description: filterFields.topic })),
      group: optional(Type.String({ description: filterFields.group })),
      fingerprint: optional(Type.String({ description: filterFields.fingerprint })),
      code: optional(Type.String({ description: filterFields.code })),
      from: optional(instantInput("Died at or after.")),
      until: optional(instantInput("Died before.")),
      text: optional(Type.String({ description: filterFields.text })),
      ids: optional(Type.Array(Type.String({ format: "uuid" }), { description: "Only these, at most 1,000." })),
    },
    { additionalProperties: false, description: "Which of the dead; everything given must fit, {} means all." },
  ),
);

/** The same as query parameters. */
export const filterQuery = {
  ...Object.fromEntries(
    Object.entries(filterFields).map(([name, description]) => [name, { type: "string", description }]),
  ),
  from: { type: "string", description: "Died at or after: RFC 3339 or epoch milliseconds." },
  until: { type: "string", description: "Died before." },
};
export const filterQueryNames = ["topic", "group", "fingerprint", "code", "from", "until", "text"] as const;

export const DeadListSchema = named(
  "DeadList",
  Type.Object({ items: Type.Array(ref(MessageDetailsSchema)), ...looked }),
);

const DeadGroupSchema = Type.Object({
  topic: Type.String(),
  group: optional(Type.String()),
  code: Type.String(),
  fingerprint: optional(Type.String({ description: "Equal for failures of one cause; only consumers make one." })),
  count: number("Messages."),
  firstAt: instant("When the first of them died."),
  lastAt: instant("When the last of them died."),
  sample: Type.Object({ id: Type.String({ format: "uuid" }), text: Type.String() }, { description: "The newest." }),
});
export const DeadGroupsReplySchema = named(
  "DeadGroupsReply",
  Type.Object({
    groups: Type.Array(DeadGroupSchema, { description: "The largest first." }),
    untold: number("Messages of further groups, beyond the 500 that are told apart."),
    ...looked,
  }),
);

const by = optional(
  Type.String({ description: "Who; until there are credentials, whatever the caller says. Stands in the audit." }),
);
const reason = optional(
  Type.String({ description: "Why, in a few words; needed unless it is a dry run. Stands in the audit." }),
);
const dryRun = optional(Type.Boolean({ default: false, description: "Counts, and changes nothing." }));

export const DiscardRequestSchema = named(
  "DiscardRequest",
  Type.Object(
    {
      filter: ref(DeadFilterSchema),
      reason,
      by,
      dryRun,
      cursor: optional(Type.String({ description: "From the reply before." })),
    },
    { additionalProperties: false },
  ),
);
export const DiscardReplySchema = named(
  "DiscardReply",
  Type.Object({ matched: number("Fitted."), discarded: number("Removed."), ...looked }),
);

export const RedriveRequestSchema = named(
  "RedriveRequest",
  Type.Object(
    {
      filter: ref(DeadFilterSchema),
      dryRun,
      reason,
      by,
      rate: optional(Type.Number({ minimum: 0.01, maximum: 20_000, default: 100, description: "Messages a second." })),
      ramp: optional(duration("How long the way from a tenth of the rate to all of it takes. Default 10 s.")),
      canary: optional(
        Type.Integer({ minimum: 0, maximum: 1_000, default: 10, description: "So many go first, and are waited for." }),
      ),
      canaryWait: optional(duration("How long outcomes of the canary are waited for. Default 1 min.")),
      stopAbove: optional(
        Type.Number({
          minimum: 0,
          maximum: 100,
          default: 10,
          description: "Stops itself above so many percent failures.",
        }),
      ),
      stopMin: optional(
        Type.Integer({
          minimum: 1,
          maximum: 1_000,
          default: 20,
          description: "Not judged before so many outcomes are known.",
        }),
      ),
      replaysMax: optional(
        Type.Integer({
          minimum: 1,
          maximum: 100,
          default: 3,
          description: "Brought back so often before, it stays dead.",
        }),
      ),
      outcomeWait: optional(duration("How long outcomes are gathered after the last one was sent. Default 10 min.")),
      edit: optional(
        Type.Object(
          {
            topic: optional(Type.String({ description: "To this topic instead, as a new message." })),
            properties: optional(textMap("Instead of the user's properties.", { color: "blue" })),
            body: optional(Type.String({ description: "Instead of the body, as text; at most 64 KiB." })),
            bodyBase64: optional(Type.String({ contentEncoding: "base64", description: "The same as bytes." })),
          },
          { additionalProperties: false },
        ),
      ),
      allowEdit: optional(
        Type.Boolean({
          description: "Must be true with `edit`; stands in for a permission until there are credentials.",
        }),
      ),
    },
    { additionalProperties: false },
  ),
);

const state = Type.Unsafe<RedriveState>({
  type: "string",
  enum: [
    "canary",
    "waiting",
    "running",
    "settling",
    "finished",
    "paused",
    "stopped",
    "canceled",
  ] satisfies RedriveState[],
  description:
    "canary: the first few go. waiting: for their outcomes. running. settling: all are sent, outcomes come in. finished. paused: by somebody. stopped: by itself, see note. canceled.",
});

export const RedriveReplySchema = named(
  "RedriveReply",
  Type.Object({
    id: Type.String({ examples: ["mg3v0k2h1x9q"] }),
    state,
    since: instant("Since when it is in this state."),
    note: optional(Type.String({ description: "Why it stopped." })),
    by: Type.String(),
    reason: Type.String(),
    createdAt: instant("Selected is what had died before this."),
    filter: ref(DeadFilterSchema),
    rate: Type.Number(),
    canary: Type.Integer(),
    stopAbove: Type.Number(),
    edited: Type.Boolean(),
    counts: Type.Object({
      sent: number("Brought back, whatever became of them."),
      succeeded: number("Delivered; for a consumer's dead: handled."),
      failed: number("Failed again, and being retried."),
      deadAgain: number("Failed again, and dead."),
      canceled: number("Canceled before they were sent."),
      skipped: number("Left alone; the outcomes say why."),
      pending: number("Sent, outcome not known."),
    }),
    scanned: number("How many of the dead were looked at."),
    selected: Type.Boolean({ description: "Whether that was all of them." }),
  }),
);

export const RedriveDryRunReplySchema = named(
  "RedriveDryRunReply",
  Type.Object({
    dryRun: Type.Literal(true),
    matched: number("Would be brought back."),
    skipped: Type.Unsafe<Record<string, number>>({
      type: "object",
      additionalProperties: { type: "integer" },
      description: "Fit, but would stay dead, by reason.",
    }),
    scanned: looked.scanned,
    complete: Type.Boolean({ description: "False: there are more of the dead than one dry run looks at." }),
    sample: Type.Array(ref(MessageDetailsSchema)),
  }),
);

export const RedriveListSchema = named(
  "RedriveList",
  Type.Object({ items: Type.Array(ref(RedriveReplySchema), { description: "The oldest first." }), cursor }),
);

export const RedriveOutcomesSchema = named(
  "RedriveOutcomes",
  Type.Object({
    items: Type.Array(
      Type.Object({
        id: Type.String({ format: "uuid" }),
        outcome: Type.String({
          description:
            "intended, sent, delivered (to the group's topic), succeeded, failed (being retried), dead-again, canceled, unknown; or why it was left alone: replay-cap, not-dead, own-topic, bad-topic, too-large, damaged.",
        }),
      }),
    ),
    cursor,
  }),
);

export const DeadAuditSchema = named(
  "DeadAudit",
  Type.Object({
    items: Type.Array(
      Type.Object({
        at: instant("When."),
        action: Type.String({ examples: ["redrive", "pause", "stop", "discard"] }),
        by: Type.String(),
        reason: Type.String(),
        what: Type.String({ description: "The filter, as JSON." }),
        redrive: optional(Type.String()),
        count: optional(number("Messages.")),
      }),
      { description: "The newest first." },
    ),
    cursor,
  }),
);

export const deadSchemas = [
  DeadFilterSchema,
  DeadListSchema,
  DeadGroupsReplySchema,
  DiscardRequestSchema,
  DiscardReplySchema,
  RedriveRequestSchema,
  RedriveReplySchema,
  RedriveDryRunReplySchema,
  RedriveListSchema,
  RedriveOutcomesSchema,
  DeadAuditSchema,
] as const;
