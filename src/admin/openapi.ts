import type { FastifyDynamicSwaggerOptions } from "@fastify/swagger";
import type { FastifySchema } from "fastify";
import type { Reply } from "./named-schema.ts";

/** The frame of the API reference; the routes fill it. */
export const openapi: FastifyDynamicSwaggerOptions = {
  openapi: {
    openapi: "3.1.0",
    info: {
      title: "Escapement",
      version: "1",
      description: [
        "Hand over a message and a time; at that time it appears on an ordinary RocketMQ topic.",
        "",
        "**Accepted is durable.** A reply to a schedule request is sent only after the message is on disk. When no reply came, repeat the request: with a `key` that is always safe, because the same key is one message.",
        "",
        "**Times.** `deliverAt` is RFC 3339 with offset or epoch milliseconds; `delay` is a duration such as `30m`, `PT30M` or a number of milliseconds. A message is never early; a past time means now.",
        "",
        "**Errors** are `application/problem+json` with a stable `code` to decide by, the `field` at fault and a sentence that says what to change. After 429 and 503 wait as long as `Retry-After` says. Nothing was stored, except after `store_unavailable`, where it is unknown.",
        "",
        "**Strict.** Unknown fields, unknown query parameters and compressed bodies are refused. In JSON, where a name occurs twice in an object, the last one holds.",
      ].join("\n"),
    },
    tags: [
      { name: "messages", description: "Schedule, look up, change and cancel." },
      { name: "dead", description: "Look at what could not be delivered, remove it, or bring it back." },
      { name: "retries", description: "Retry policies: store, bind, and ask what they would do." },
      { name: "dependencies", description: "How what your consumers call is doing; hold it open or closed." },
      { name: "operation", description: "What the process is doing." },
    ],
  },
  hideUntagged: true,
  transform: ({ schema, url }) => ({ schema: schema === undefined ? { hide: true } : describeReplies(schema), url }),
  refResolver: {
    buildLocalReference: (json, _baseUri, _fragment, i) => (typeof json.$id === "string" ? json.$id : `schema-${i}`),
  },
};

/** Beside a reference the generator looks for no description, so replies are spelled out for it. */
const describeReplies = (schema: FastifySchema): FastifySchema => {
  if (schema.response === undefined) return schema;
  const replies = Object.entries(schema.response as Record<string, Partial<Reply>>).map(([status, reply]) => [
    status,
    reply.$ref === undefined
      ? reply
      : {
          description: reply["x-response-description"],
          content: { "application/json": { schema: { $ref: reply.$ref } } },
        },
  ]);
  return { ...schema, response: Object.fromEntries(replies) };
};
