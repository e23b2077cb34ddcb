import type { FastifyInstance } from "fastify";
import { EscapementError } from "../../message/errors.ts";
import { problems, requestProblems } from "../documented-problems.ts";
import type { HttpContext } from "../http-context.ts";
import { reply as replied } from "../named-schema.ts";
import { ConsumerGroupReplySchema } from "../reply-schemas.ts";
import { ConsumerGroupRequestSchema } from "../request-schemas.ts";

/** One flag. */
const bodyBytesMax = 1_024;

/** RocketMQ allows 127 characters in a topic, and the retry topic is named after the group. */
const groupPattern = /^[%|a-zA-Z0-9_-]{1,117}$/;

/** What a consumer that retries by us needs at the broker before it can start. */
export const consumerGroupRoutes = (app: FastifyInstance, { groups, admitRequest }: HttpContext): void => {
  app.post<{ Params: { group: string } }>(
    "/v1/consumer-groups/:group",
    {
      bodyLimit: bodyBytesMax,
      onRequest: admitRequest(bodyBytesMax),
      schema: {
        tags: ["retries"],
        operationId: "prepareConsumerGroup",
        summary: "Make a consumer group ready for retries",
        description:
          "Sees to it that the group and its retry topic exist at the broker, and answers how they are called. Consumers ask for it at their start; it may be asked again at any time.",
        params: { type: "object", properties: { group: { type: "string", description: "The consumer group." } } },
        body: { $ref: `${ConsumerGroupRequestSchema.$id}#` },
        response: {
          200: replied(ConsumerGroupReplySchema, "It is ready."),
          ...problems("invalid_field", "unknown_field", "group_not_ready", ...requestProblems, "internal"),
        },
      },
    },
    async (request) => {
      const { group } = request.params;
      if (!groupPattern.test(group)) {
        throw new EscapementError("invalid_field", "group must be 1 to 117 letters, digits and %|_-.", {
          field: "group",
        });
      }
      return groups.prepare(group, { ordered: orderedOf(request.body) });
    },
  );
};

const orderedOf = (body: unknown): boolean => {
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new EscapementError("invalid_request", "The request must be a JSON object, at least {}.");
  }
  for (const name of Object.keys(body)) {
    if (name === "ordered") continue;
    const shown = JSON.stringify(name.slice(0, 64)).slice(1, -1);
    throw new EscapementError("unknown_field", `There is no field ${shown}: this route takes ordered.`, {
      field: shown,
    });
  }
  const { ordered = false } = body as { ordered?: unknown };
  if (typeof ordered === "boolean") return ordered;
  throw new EscapementError("invalid_field", "ordered must be true or false.", { field: "ordered" });
};
