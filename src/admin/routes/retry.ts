import type { FastifyInstance } from "fastify";
import { simulateRetries } from "../../retry/simulate.ts";
import { problems, requestProblems } from "../documented-problems.ts";
import type { HttpContext } from "../http-context.ts";
import { reply as replied } from "../named-schema.ts";
import { SimulateRetriesReplySchema, SimulateRetriesRequestSchema } from "../retry-schemas.ts";

/** A policy of a hundred rules with long codes stays far below this. */
export const policyBytesMax = 128 * 1024;

/** What a retry policy would do. Nothing is stored, and neither the store nor the broker is asked. */
export const retryRoutes = (app: FastifyInstance, { admitRequest }: HttpContext): void => {
  app.post(
    "/v1/retry-policies/simulate",
    {
      bodyLimit: policyBytesMax,
      onRequest: admitRequest(policyBytesMax),
      schema: {
        tags: ["retries"],
        operationId: "simulateRetries",
        summary: "Ask what a retry policy would do",
        description:
          "Lists, for an error that goes on, what happens after each attempt with the bounds of every wait, and which limit ends it. The same function decides in production.",
        body: { $ref: `${SimulateRetriesRequestSchema.$id}#` },
        response: {
          200: replied(SimulateRetriesReplySchema, "The schedule and what ends it."),
          ...problems("invalid_field", ...requestProblems, "internal"),
        },
      },
    },
    async (request) => simulateRetries(request.body),
  );
};
