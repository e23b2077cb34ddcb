import type { FastifyInstance, FastifyRequest } from "fastify";
import { EscapementError } from "../../message/errors.ts";
import { DependencyDetailsSchema, DependencyPageSchema, ForceDependencyRequestSchema } from "../dependency-schemas.ts";
import { problems, requestProblems, serviceProblems } from "../documented-problems.ts";
import type { HttpContext } from "../http-context.ts";
import { reply as replied } from "../named-schema.ts";
import { readCount, readQuery } from "../query.ts";

const limitDefault = 50;
/** Each one's parked messages are counted in every shard. */
const limitMax = 200;
const cursorLengthMax = 128;
const forceBytesMax = 4_096;

/** How what the consumers call is doing, and how an operator holds it open or closed. */
export const dependencyRoutes = (app: FastifyInstance, { dependencies, admitRequest }: HttpContext): void => {
  app.get(
    "/v1/dependencies",
    {
      schema: {
        tags: ["dependencies"],
        operationId: "listDependencies",
        summary: "List dependencies",
        description:
          "What is not well, is forced, or has messages parked, and whatever else consumers report to the process that answers; by key.",
        querystring: {
          type: "object",
          properties: {
            cursor: { type: "string", description: "From the page before; leave it out for the first page." },
            limit: { type: "integer", minimum: 1, maximum: limitMax, default: limitDefault, description: "Page size." },
          },
        },
        response: {
          200: replied(DependencyPageSchema, "One page."),
          ...problems("invalid_field", "unknown_field", "invalid_utf8", ...serviceProblems),
        },
      },
    },
    async (request) => {
      const { cursor, limit } = readQuery(request.raw.url!, ["cursor", "limit"]);
      if (cursor !== undefined && (cursor.length === 0 || cursor.length > cursorLengthMax)) {
        throw new EscapementError("invalid_field", "cursor is not one that this API gave out.", { field: "cursor" });
      }
      return dependencies.list(cursor, readCount(limit, "limit", limitDefault, limitMax));
    },
  );

  app.get(
    "/v1/dependencies/:key",
    {
      schema: {
        tags: ["dependencies"],
        operationId: "showDependency",
        summary: "Look at one dependency",
        description:
          "Its state for all processes, what is called and allowed, and how many messages are parked for it.",
        params: keyParams,
        response: {
          200: replied(DependencyDetailsSchema, "How it is doing."),
          ...problems("invalid_field", "unknown_field", "not_found", ...serviceProblems),
        },
      },
    },
    async (request) => {
      readQuery(request.raw.url!, []);
      return dependencies.show(keyOf(request));
    },
  );

  app.post(
    "/v1/dependencies/:key/force",
    {
      bodyLimit: forceBytesMax,
      onRequest: admitRequest(forceBytesMax),
      schema: {
        tags: ["dependencies"],
        operationId: "forceDependency",
        summary: "Hold a dependency open or closed",
        description:
          "open: nothing is called and messages are parked, whatever succeeds. closed: everything is called, whatever fails. Always with an end; auto ends it early. All consumers follow within two seconds.",
        params: keyParams,
        body: { $ref: `${ForceDependencyRequestSchema.$id}#` },
        response: {
          200: replied(DependencyDetailsSchema, "How it is now."),
          ...problems("invalid_field", ...requestProblems, ...serviceProblems),
        },
      },
    },
    async (request) => dependencies.force(keyOf(request), request.body),
  );
};

const keyParams = {
  type: "object",
  properties: { key: { type: "string", description: "The dependency's key, percent-encoded." } },
  required: ["key"],
};

const keyOf = (request: FastifyRequest): string => (request.params as { key: string }).key;
