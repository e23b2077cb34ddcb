import type { FastifyInstance } from "fastify";
import { ConsumerSyncReplySchema, ConsumerSyncRequestSchema } from "../dependency-schemas.ts";
import { problems, requestProblems, serviceProblems } from "../documented-problems.ts";
import type { HttpContext } from "../http-context.ts";
import { reply as replied } from "../named-schema.ts";

/** A thousand reports with their terms are a third of this. */
const syncBytesMax = 1024 * 1024;

/** What consumer processes and the service tell each other once a second. */
export const consumerRoutes = (app: FastifyInstance, { dependencies, admitRequest }: HttpContext): void => {
  app.post(
    "/v1/consumers/sync",
    {
      bodyLimit: syncBytesMax,
      onRequest: admitRequest(syncBytesMax),
      schema: {
        tags: ["dependencies"],
        operationId: "syncConsumer",
        summary: "Report calls, hear what holds",
        description:
          "For consumer processes, once a second: what their calls met since the last time; answered are the policies that hold and this worker's share of each dependency.",
        body: { $ref: `${ConsumerSyncRequestSchema.$id}#` },
        response: {
          200: replied(ConsumerSyncReplySchema, "What holds."),
          ...problems("invalid_field", "policy_not_found", ...requestProblems, ...serviceProblems),
        },
      },
    },
    async (request) => dependencies.sync(request.body),
  );
};
