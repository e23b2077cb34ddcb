import type { FastifyInstance } from "fastify";
import { fieldProblems, problems, requestProblems, serviceProblems } from "../documented-problems.ts";
import type { HttpContext } from "../http-context.ts";
import { reply as replied } from "../named-schema.ts";
import { MessageReplySchema } from "../reply-schemas.ts";
import { ScheduleRequestSchema } from "../request-schemas.ts";

/** One message in. The hottest route: nothing happens here that a request does not need. */
export const scheduleRoutes = (app: FastifyInstance, { intake, limits, tenantOf, admitRequest }: HttpContext): void => {
  app.post(
    "/v1/messages",
    {
      bodyLimit: limits.requestBytesMax,
      onRequest: admitRequest(limits.requestBytesMax),
      schema: {
        tags: ["messages"],
        operationId: "schedule",
        summary: "Schedule a message",
        description:
          "Accepts one message for later. The reply is sent when it is durable. With a `key` the request may be repeated as often as needed.",
        body: { $ref: `${ScheduleRequestSchema.$id}#` },
        response: {
          200: replied(MessageReplySchema, "The key was known; this is the first message, which was kept."),
          201: replied(MessageReplySchema, "Accepted and durable."),
          ...problems(
            ...fieldProblems,
            "invalid_topic",
            "topic_not_found",
            "topic_type_mismatch",
            "too_late",
            ...requestProblems,
            "topic_unverified",
            ...serviceProblems,
          ),
        },
      },
    },
    async (request, reply) => {
      const accepted = await intake.schedule(request.body, tenantOf(request));
      reply.code(accepted.deduplicated ? 200 : 201);
      return accepted;
    },
  );
};
