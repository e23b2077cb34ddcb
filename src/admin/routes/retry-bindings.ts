import type { FastifyInstance } from "fastify";
import { problems, requestProblems, serviceProblems } from "../documented-problems.ts";
import type { HttpContext } from "../http-context.ts";
import { reply as replied } from "../named-schema.ts";
import { RetryBindingSchema, RetryBindingsReplySchema } from "../policy-schemas.ts";
import { readQuery } from "../query.ts";

/** Three names of at most 127 characters each. */
const bindingBytesMax = 4 * 1024;

/** Whose messages which retry policy decides about. */
export const retryBindingRoutes = (app: FastifyInstance, { policies, admitRequest }: HttpContext): void => {
  const url = "/v1/retry-bindings";
  const common = { tags: ["retries"] };
  const answer = replied(RetryBindingsReplySchema, "All bindings, as they are now.");

  app.get(
    url,
    {
      schema: {
        ...common,
        operationId: "listBindings",
        summary: "List what retry policies are bound to",
        response: { 200: answer, ...problems("unknown_field", ...serviceProblems) },
      },
    },
    async (request) => {
      readQuery(request.raw.url!, []);
      return policies.bindings();
    },
  );

  app.put(
    url,
    {
      bodyLimit: bindingBytesMax,
      onRequest: admitRequest(bindingBytesMax),
      schema: {
        ...common,
        operationId: "bindPolicy",
        summary: "Bind a retry policy",
        description:
          "To a topic, a consumer group, a tag, or several of them; to nothing of these for everything. It takes the place of what was bound to the same. Who names more is the more special, and of as many a group before a topic before a tag. What names no group holds for the service's own sends too. Holds everywhere within two seconds.",
        body: { $ref: `${RetryBindingSchema.$id}#` },
        response: {
          200: answer,
          ...problems(
            "invalid_field",
            "policy_not_found",
            "policy_circle",
            "too_many_policies",
            ...requestProblems,
            ...serviceProblems,
          ),
        },
      },
    },
    async (request) => policies.bind(request.body),
  );

  app.delete(
    url,
    {
      bodyLimit: bindingBytesMax,
      onRequest: admitRequest(bindingBytesMax),
      schema: {
        ...common,
        operationId: "unbindPolicy",
        summary: "Remove the binding of a topic, group and tag",
        description: "Exactly the one that names these; without any the one for everything.",
        querystring: {
          type: "object",
          properties: { topic: { type: "string" }, group: { type: "string" }, tag: { type: "string" } },
        },
        response: {
          200: answer,
          ...problems(
            "invalid_field",
            "unknown_field",
            "binding_not_found",
            "policy_circle",
            "overloaded",
            ...serviceProblems,
          ),
        },
      },
    },
    async (request) => policies.unbind(readQuery(request.raw.url!, ["topic", "group", "tag"])),
  );
};
