import type { FastifyInstance, FastifyRequest } from "fastify";
import type { MessageRef } from "../../ingest/intake.port.ts";
import { EscapementError } from "../../message/errors.ts";
import { fieldProblems, problems, requestProblems, serviceProblems } from "../documented-problems.ts";
import type { HttpContext } from "../http-context.ts";
import { reply as replied } from "../named-schema.ts";
import { readFlag, readQuery } from "../query.ts";
import { MessageDetailsSchema, MessageReplySchema } from "../reply-schemas.ts";
import { RescheduleRequestSchema } from "../request-schemas.ts";

/** One message that is known: look up, cancel, reschedule; by its id, or by the user's own key. */
export const messageRoutes = (app: FastifyInstance, context: HttpContext): void => {
  for (const form of [byId, byKey]) {
    const { url, params, querystring, required, refOf } = form;
    const { intake, limits, tenantOf } = context;
    const admitted = context.admitRequest(limits.requestBytesMax);
    const common = { tags: ["messages"], ...(params === undefined ? {} : { params }) };

    app.get(
      url,
      {
        schema: {
          ...common,
          operationId: `get${form.name}`,
          summary: `Look a message up by its ${form.by}`,
          description: "Ended messages are known for the dedupe window, an hour unless configured otherwise.",
          querystring: { type: "object", properties: { ...querystring, body: bodyFlag }, required },
          response: {
            200: replied(MessageDetailsSchema, "What is known of the message."),
            ...problems(...form.problems, "unknown_field", "not_found", ...serviceProblems),
          },
        },
      },
      async (request) => {
        const { body, ...rest } = readQuery(request.raw.url!, [...form.names, "body"]);
        return intake.get(refOf(request, rest), tenantOf(request), { body: readFlag(body, "body") });
      },
    );

    app.delete(
      url,
      {
        onRequest: admitted,
        bodyLimit: limits.requestBytesMax,
        schema: {
          ...common,
          operationId: `cancel${form.name}`,
          summary: `Cancel a message by its ${form.by}`,
          description:
            "After `canceled` no copy is ever sent. Canceling what is canceled already is fine. A message that is being sent or was delivered is `too_late`.",
          ...(querystring === undefined ? {} : { querystring: { type: "object", properties: querystring, required } }),
          response: {
            200: replied(MessageReplySchema, "Canceled."),
            ...problems(...form.problems, "unknown_field", "not_found", "too_late", "overloaded", ...serviceProblems),
          },
        },
      },
      async (request) => intake.cancel(refOf(request, readQuery(request.raw.url!, form.names)), tenantOf(request)),
    );

    app.patch(
      url,
      {
        onRequest: admitted,
        bodyLimit: limits.requestBytesMax,
        schema: {
          ...common,
          operationId: `reschedule${form.name}`,
          summary: `Reschedule a message by its ${form.by}`,
          description: "Gives a waiting message a new time, and if you like a new body or new properties.",
          ...(querystring === undefined ? {} : { querystring: { type: "object", properties: querystring, required } }),
          body: { $ref: `${RescheduleRequestSchema.$id}#` },
          response: {
            200: replied(MessageReplySchema, "Rescheduled."),
            ...problems(
              ...new Set([...form.problems, ...fieldProblems, "not_found", "too_late", ...requestProblems] as const),
              ...serviceProblems,
            ),
          },
        },
      },
      async (request) =>
        intake.reschedule(refOf(request, readQuery(request.raw.url!, form.names)), request.body, tenantOf(request)),
    );
  }
};

const bodyFlag = { type: "boolean", default: false, description: "true: reply with the body, as bodyBase64." };

/** The two ways to say which message. */
const byId = {
  name: "ById",
  by: "id",
  url: "/v1/messages/:id",
  names: [] as const,
  problems: ["invalid_id"] as const,
  params: {
    type: "object",
    properties: {
      id: { type: "string", format: "uuid", description: "As answered by schedule; case does not matter." },
    },
    required: ["id"],
  },
  querystring: undefined,
  required: [] as const,
  refOf: (request: FastifyRequest): MessageRef => ({ id: (request.params as { id: string }).id }),
};

const byKey = {
  name: "ByKey",
  by: "key",
  url: "/v1/messages",
  names: ["key", "messageGroup"] as const,
  problems: ["missing_field", "invalid_field", "invalid_utf8"] as const,
  params: undefined,
  querystring: {
    key: { type: "string", description: "The key that the message was scheduled with." },
    messageGroup: { type: "string", description: "The message group it was scheduled with, if it had one." },
  },
  required: ["key"] as const,
  refOf: (_request: FastifyRequest, query: { key?: string; messageGroup?: string }): MessageRef => {
    const { key, messageGroup } = query;
    if (key === undefined) {
      throw new EscapementError("missing_field", "Say which message: ?key=… with the key it was scheduled with.", {
        field: "key",
      });
    }
    return messageGroup === undefined ? { key } : { key, messageGroup };
  },
};
