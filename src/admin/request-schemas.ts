import { Type } from "typebox";
import { limits } from "../message/message.ts";
import { named, textMap } from "./named-schema.ts";

/**
 * The requests of `wire/http.ts` once more, as JSON Schema for the API reference. They check nothing: admit does that,
 * with better errors. A test holds them to the wire types, so that neither changes alone.
 */

export const duration = (description: string) =>
  Type.Union([Type.String({ examples: ["30m", "PT30M", "level:3"] }), Type.Integer({ minimum: 0 })], {
    description: `${description} Units w d h m s ms ("1h30m", "1.5h"), an ISO 8601 duration without years and months, a whole number of milliseconds, or one of RocketMQ's delay levels.`,
  });

const deliverAt = Type.Union([Type.String({ format: "date-time" }), Type.Integer({ minimum: 100_000_000_000 })], {
  description: `When to deliver: RFC 3339 with offset, or epoch milliseconds. Fractions of a millisecond are rounded up. Past instants are delivered now; at most ${limits.delayDaysMax} days ahead. Exactly one of deliverAt and delay.`,
  examples: ["2030-01-01T09:00:00+08:00", 1893459600000],
});

const delay = duration(
  `How long to wait from now, at most ${limits.delayDaysMax} days. Exactly one of deliverAt and delay.`,
);

const body = Type.String({
  description: `The body as text, stored as UTF-8; 1 to ${limits.bodyBytesMax} bytes. Exactly one of body and bodyBase64.`,
  examples: ["your order ships tomorrow"],
});

const bodyBase64 = Type.String({
  contentEncoding: "base64",
  description: "The body as bytes: canonical base64 with padding, standard alphabet, no line breaks.",
});

const propertyRules = `At most ${limits.propertiesMax}; names, values, tag and keys together at most ${limits.propertyBytesMax} bytes. No control characters, no empty values, no names that RocketMQ or Escapement keeps for itself.`;
const properties = textMap(`User properties, delivered as they are. ${propertyRules}`, { color: "red" });

const Retry = Type.Object(
  {
    maxAttempts: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1000, default: 80, description: "Sends in all, the first one included." }),
    ),
    initial: Type.Optional(duration("The wait after the first failure. Default 1 s.")),
    max: Type.Optional(duration("The longest wait between two sends. Default 30 min, at most 7 days.")),
    multiplier: Type.Optional(
      Type.Number({
        minimum: 1,
        maximum: 10,
        default: 2,
        description: "How much longer each wait is than the one before.",
      }),
    ),
  },
  { additionalProperties: false, description: "How a failed send to the broker is tried again. Waits have jitter." },
);

export const ScheduleRequestSchema = named(
  "ScheduleRequest",
  Type.Object(
    {
      topic: Type.String({
        pattern: "^[%|a-zA-Z0-9_-]{1,127}$",
        description: "The topic to deliver to. It is yours and must exist; topics of RocketMQ itself are refused.",
        examples: ["orders"],
      }),
      body: Type.Optional(body),
      bodyBase64: Type.Optional(bodyBase64),
      tag: Type.Optional(
        Type.String({
          description: `RocketMQ's tag, at most ${limits.tagBytesMax} bytes, without "|".`,
          examples: ["reminder"],
        }),
      ),
      keys: Type.Optional(
        Type.Array(Type.String(), {
          maxItems: limits.keysMax,
          description: `RocketMQ's keys, by which its console finds messages: at most ${limits.keysMax} of ${limits.keyBytesMax} bytes, without spaces.`,
          examples: [["order-4711"]],
        }),
      ),
      properties: Type.Optional(properties),
      messageGroup: Type.Optional(
        Type.String({
          description: `FIFO: messages of one group are sent in order, one after the other. At most ${limits.messageGroupBytesMax} bytes; the topic must be of type FIFO.`,
          examples: ["customer-17"],
        }),
      ),
      deliverAt: Type.Optional(deliverAt),
      delay: Type.Optional(delay),
      key: Type.Optional(
        Type.String({
          description: `Your own name for the message, at most ${limits.keyBytesMax} bytes. The same key is one message, so a request with a key is safe to repeat, and the message can be found, changed and canceled by it. Within a message group the key is unique in that group.`,
          examples: ["order-4711/reminder"],
        }),
      ),
      onConflict: Type.Optional(
        Type.Unsafe<"keep" | "replace">({
          type: "string",
          enum: ["keep", "replace"],
          default: "keep",
          description:
            "When the key is known: keep the first message (default) or put this one in its place. Needs a key.",
        }),
      ),
      expireAfter: Type.Optional(
        Type.Union([Type.String(), Type.Integer({ minimum: 1 })], {
          description: "Do not deliver later than this: a duration counted from the due time, or an RFC 3339 instant.",
          examples: ["2h"],
        }),
      ),
      retry: Type.Optional(Retry),
      waitForTopic: Type.Optional(
        Type.Boolean({ default: false, description: "Accept the message although its topic does not exist yet." }),
      ),
    },
    {
      additionalProperties: false,
      description: "A message and when to deliver it. Fields that are not listed here are refused.",
      examples: [{ topic: "orders", body: "your order ships tomorrow", delay: "30m", key: "order-4711/reminder" }],
    },
  ),
);

export const RescheduleRequestSchema = named(
  "RescheduleRequest",
  Type.Object(
    {
      deliverAt: Type.Optional(deliverAt),
      delay: Type.Optional(delay),
      expireAfter: Type.Optional(
        Type.Union([Type.String(), Type.Integer({ minimum: 1 }), Type.Null()], {
          description: "A new limit as in scheduling, or null for none. Left out: the instant set before stays.",
        }),
      ),
      body: Type.Optional(body),
      bodyBase64: Type.Optional(bodyBase64),
      properties: Type.Optional(textMap(`Replaces all properties. ${propertyRules}`, { color: "blue" })),
    },
    {
      additionalProperties: false,
      description: "A new time, and if you like a new body or new properties. Everything else stays.",
      examples: [{ delay: "2h" }],
    },
  ),
);

/** Added to the app under their `$id`, and listed in the reference under it. */
export const ConsumerGroupRequestSchema = named(
  "ConsumerGroupRequest",
  Type.Object(
    {
      ordered: Type.Optional(
        Type.Boolean({ default: false, description: "One message of a message group at a time (FIFO topics)." }),
      ),
    },
    { additionalProperties: false, description: "What a consumer group needs." },
  ),
);

export const requestSchemas = [ScheduleRequestSchema, RescheduleRequestSchema, ConsumerGroupRequestSchema] as const;
