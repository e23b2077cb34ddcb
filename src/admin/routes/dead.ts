import type { FastifyInstance } from "fastify";
import {
  DeadAuditSchema,
  DeadGroupsReplySchema,
  DeadListSchema,
  DiscardReplySchema,
  DiscardRequestSchema,
  filterQuery,
  filterQueryNames,
} from "../dead-schemas.ts";
import { problems, requestProblems, serviceProblems } from "../documented-problems.ts";
import type { HttpContext } from "../http-context.ts";
import { reply as replied } from "../named-schema.ts";
import { readCount, readFlag, readQuery } from "../query.ts";
import { MessageDetailsSchema } from "../reply-schemas.ts";

const limitDefault = 100;
export const limitMax = 1_000;
const deadBytesMax = 128 * 1024;

export const cursorParameter = {
  type: "string",
  description: "From the page before; leave it out for the first page.",
};
export const limitParameter = {
  type: "integer",
  minimum: 1,
  maximum: limitMax,
  default: limitDefault,
  description: "Page size.",
};
const queryProblems = ["invalid_field", "unknown_field", "invalid_utf8", "invalid_time"] as const;

/** The messages that could not be delivered, kept until someone decides: looked at, grouped, removed. */
export const deadRoutes = (app: FastifyInstance, { dead, tenantOf, admitRequest }: HttpContext): void => {
  app.get(
    "/v1/dead",
    {
      schema: {
        tags: ["dead"],
        operationId: "listDead",
        summary: "List dead messages",
        description:
          "Messages that cannot be delivered, or that their consumer gave up, in pages; oldest first within a shard. One request looks at some 10,000 messages at most: when a filter fits few of them a page may be short or empty, and `complete` is false.",
        querystring: {
          type: "object",
          properties: { ...filterQuery, cursor: cursorParameter, limit: limitParameter },
        },
        response: { 200: replied(DeadListSchema, "One page."), ...problems(...queryProblems, ...serviceProblems) },
      },
    },
    async (request) => {
      const { limit, ...query } = readQuery(request.raw.url!, [...filterQueryNames, "cursor", "limit"]);
      return dead.list(query, readCount(limit, "limit", limitDefault, limitMax), tenantOf(request));
    },
  );

  app.get(
    "/v1/dead/groups",
    {
      schema: {
        tags: ["dead"],
        operationId: "groupDead",
        summary: "Count dead messages by what killed them",
        description:
          "By topic, consumer group, code and fingerprint, the largest first. One request looks at some 10,000 messages; `complete` says whether that was all.",
        querystring: { type: "object", properties: { ...filterQuery, cursor: cursorParameter } },
        response: {
          200: replied(DeadGroupsReplySchema, "The groups found."),
          ...problems(...queryProblems, ...serviceProblems),
        },
      },
    },
    async (request) => dead.groups(readQuery(request.raw.url!, [...filterQueryNames, "cursor"]), tenantOf(request)),
  );

  app.get(
    "/v1/dead/audit",
    {
      schema: {
        tags: ["dead"],
        operationId: "auditDead",
        summary: "List who did what to the dead",
        description:
          "Redrives, their commands, those that stopped themselves (by `escapement`), discards, and what policies removed: who, when, why and what.",
        querystring: { type: "object", properties: { cursor: cursorParameter, limit: limitParameter } },
        response: { 200: replied(DeadAuditSchema, "One page."), ...problems(...queryProblems, ...serviceProblems) },
      },
    },
    async (request) => {
      const { cursor, limit } = readQuery(request.raw.url!, ["cursor", "limit"]);
      return dead.audit(cursor, readCount(limit, "limit", limitDefault, limitMax));
    },
  );

  app.get<{ Params: { id: string } }>(
    "/v1/dead/:id",
    {
      schema: {
        tags: ["dead"],
        operationId: "getDead",
        summary: "Look at a dead message",
        description: "With where it came from and how it failed, where a consumer gave it up.",
        params: { type: "object", properties: { id: { type: "string", format: "uuid" } } },
        querystring: {
          type: "object",
          properties: { body: { type: "boolean", default: false, description: "Also its body, as base64." } },
        },
        response: {
          200: replied(MessageDetailsSchema, "The message."),
          ...problems("invalid_id", "invalid_field", "unknown_field", "invalid_utf8", "not_found", ...serviceProblems),
        },
      },
    },
    async (request) => {
      const { body } = readQuery(request.raw.url!, ["body"]);
      return dead.show(request.params.id, readFlag(body, "body"), tenantOf(request));
    },
  );

  app.post(
    "/v1/dead/discard",
    {
      bodyLimit: deadBytesMax,
      onRequest: admitRequest(deadBytesMax),
      schema: {
        tags: ["dead"],
        operationId: "discardDead",
        summary: "Remove dead messages for good",
        description:
          "Removes what fits the filter, in bounded pieces: while the reply is not `complete`, go on with its cursor. Nothing brings a removed message back.",
        body: { $ref: `${DiscardRequestSchema.$id}#` },
        response: {
          200: replied(DiscardReplySchema, "What was removed."),
          ...problems("invalid_field", "missing_field", ...requestProblems, ...serviceProblems),
        },
      },
    },
    async (request) => dead.discard(request.body, tenantOf(request)),
  );
};
