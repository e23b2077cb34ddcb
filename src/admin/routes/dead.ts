import type { FastifyInstance } from "fastify";
import { EscapementError } from "../../message/errors.ts";
import { problems, serviceProblems } from "../documented-problems.ts";
import type { HttpContext } from "../http-context.ts";
import { reply as replied } from "../named-schema.ts";
import { readCount, readQuery } from "../query.ts";
import { DeadPageSchema } from "../reply-schemas.ts";

const limitDefault = 100;
const limitMax = 1_000;
/** Our cursors are some dozen characters. */
const cursorLengthMax = 256;

/** The messages that could not be delivered, kept until someone decides. */
export const deadRoutes = (app: FastifyInstance, { intake, tenantOf }: HttpContext): void => {
  app.get(
    "/v1/dead",
    {
      schema: {
        tags: ["messages"],
        operationId: "listDead",
        summary: "List dead messages",
        description: "Messages that cannot be delivered, with the reason, in pages; oldest first within a shard.",
        querystring: {
          type: "object",
          properties: {
            cursor: { type: "string", description: "From the page before; leave it out for the first page." },
            limit: { type: "integer", minimum: 1, maximum: limitMax, default: limitDefault, description: "Page size." },
          },
        },
        response: {
          200: replied(DeadPageSchema, "One page."),
          ...problems("invalid_field", "unknown_field", "invalid_utf8", ...serviceProblems),
        },
      },
    },
    async (request) => {
      const query = readQuery(request.raw.url!, ["cursor", "limit"]);
      const { cursor } = query;
      if (cursor !== undefined && (cursor.length === 0 || cursor.length > cursorLengthMax)) {
        throw new EscapementError("invalid_field", "cursor is not one that this API gave out.", { field: "cursor" });
      }
      return intake.dead(cursor, readCount(query.limit, "limit", limitDefault, limitMax), tenantOf(request));
    },
  );
};
