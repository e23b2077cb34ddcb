import type { FastifyInstance } from "fastify";
import { problems, serviceProblems } from "../documented-problems.ts";
import type { HttpContext } from "../http-context.ts";
import { reply as replied } from "../named-schema.ts";
import { readQuery } from "../query.ts";
import { HealthReplySchema, StatsReplySchema } from "../reply-schemas.ts";

/** How the process is: for people (stats), for whoever restarts or routes to it (health), for monitoring (metrics). */
export const processRoutes = (app: FastifyInstance, { overview }: HttpContext): void => {
  app.get(
    "/v1/stats",
    {
      schema: {
        tags: ["operation"],
        operationId: "stats",
        summary: "Counts and lateness",
        description: "What waits, what is due when, who sends it, and how late messages were in the last minute.",
        response: {
          200: replied(StatsReplySchema, "The state of the store and of this process."),
          ...problems("unknown_field", ...serviceProblems),
        },
      },
    },
    async (request) => {
      readQuery(request.raw.url!, []);
      return overview.stats();
    },
  );

  // Probes may carry query parameters of their own (cache busters); they are not read.
  app.get(
    "/health/live",
    {
      schema: {
        tags: ["operation"],
        operationId: "live",
        summary: "Is the process alive?",
        description:
          "200 for as long as the process can answer. Restart it when it cannot; a broken store is no reason.",
        response: { 200: replied(HealthReplySchema, "Alive; problems are listed all the same.") },
      },
    },
    async () => overview.health(),
  );

  app.get(
    "/health/ready",
    {
      schema: {
        tags: ["operation"],
        operationId: "ready",
        summary: "Should requests come here?",
        description: "Answers at once from what the process knows; it does not ask the store or the broker.",
        response: {
          200: replied(HealthReplySchema, "Ready."),
          503: replied(HealthReplySchema, "Not ready, or stopping; the problems say why."),
        },
      },
    },
    async (_request, reply) => {
      const health = overview.health();
      if (health.status !== "ok") reply.code(503);
      return health;
    },
  );

  app.get(
    "/metrics",
    {
      schema: {
        tags: ["operation"],
        operationId: "metrics",
        summary: "Metrics for Prometheus",
        response: {
          200: {
            description: "Prometheus text format.",
            content: { "text/plain": { schema: { type: "string" } } },
          },
        },
      },
    },
    async (_request, reply) => {
      const { contentType, text } = await overview.metrics();
      return reply.type(contentType).send(text);
    },
  );
};
