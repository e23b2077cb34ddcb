import type { FastifyInstance } from "fastify";
import {
  RedriveDryRunReplySchema,
  RedriveListSchema,
  RedriveOutcomesSchema,
  RedriveReplySchema,
  RedriveRequestSchema,
} from "../dead-schemas.ts";
import { problems, requestProblems, serviceProblems } from "../documented-problems.ts";
import type { HttpContext } from "../http-context.ts";
import { reply as replied } from "../named-schema.ts";
import { readCount, readQuery } from "../query.ts";
import { cursorParameter, limitMax, limitParameter } from "./dead.ts";

const limitDefault = 100;
/** An edited body in base64, and the rest. */
const redriveBytesMax = 256 * 1024;

/** Bringing back the dead, as jobs that outlive processes. */
export const redriveRoutes = (app: FastifyInstance, { dead, tenantOf, admitRequest }: HttpContext): void => {
  const params = { type: "object", properties: { id: { type: "string", description: "The redrive's id." } } };
  const queryProblems = ["invalid_field", "unknown_field", "invalid_utf8"] as const;

  app.post(
    "/v1/redrives",
    {
      bodyLimit: redriveBytesMax,
      onRequest: admitRequest(redriveBytesMax),
      schema: {
        tags: ["dead"],
        operationId: "redrive",
        summary: "Bring dead messages back",
        description:
          "Begins a job: what fits the filter and is dead now goes to its topic again, a consumer's dead to its group's retry topic. First a canary, then with a ramp up to the rate; it stops itself when too many fail. With `dryRun` it only counts and shows some.",
        body: { $ref: `${RedriveRequestSchema.$id}#` },
        response: {
          200: replied(RedriveDryRunReplySchema, "What a redrive would do (dryRun)."),
          201: replied(RedriveReplySchema, "Begun."),
          ...problems("invalid_field", "missing_field", ...requestProblems, ...serviceProblems),
        },
      },
    },
    async (request, reply) => {
      const answer = await dead.redrive(request.body, tenantOf(request));
      return reply.status("dryRun" in answer ? 200 : 201).send(answer);
    },
  );

  app.get(
    "/v1/redrives",
    {
      schema: {
        tags: ["dead"],
        operationId: "listRedrives",
        summary: "List redrives",
        querystring: { type: "object", properties: { cursor: cursorParameter, limit: limitParameter } },
        response: { 200: replied(RedriveListSchema, "One page."), ...problems(...queryProblems, ...serviceProblems) },
      },
    },
    async (request) => {
      const { cursor, limit } = readQuery(request.raw.url!, ["cursor", "limit"]);
      return dead.redrives(cursor, readCount(limit, "limit", limitDefault, limitMax), tenantOf(request));
    },
  );

  app.get<{ Params: { id: string } }>(
    "/v1/redrives/:id",
    {
      schema: {
        tags: ["dead"],
        operationId: "getRedrive",
        summary: "See how far a redrive is",
        params,
        response: {
          200: replied(RedriveReplySchema, "The redrive."),
          ...problems("redrive_not_found", ...serviceProblems),
        },
      },
    },
    async (request) => dead.redriveOf(request.params.id, tenantOf(request)),
  );

  for (const [command, summary, description] of [
    ["pause", "Pause a redrive", "What is due within the next one and a half seconds may still go."],
    ["resume", "Resume a redrive", "Also one that has stopped itself: say so when the cause is mended."],
    ["cancel", "Cancel a redrive", "What it has brought back goes on; the rest stays dead."],
  ] as const) {
    app.post<{ Params: { id: string } }>(
      `/v1/redrives/:id/${command}`,
      {
        bodyLimit: redriveBytesMax,
        onRequest: admitRequest(redriveBytesMax),
        schema: {
          tags: ["dead"],
          operationId: `${command}Redrive`,
          summary,
          description: `${description} Saying it twice is fine. The body may hold \`by\` and \`reason\` for the audit.`,
          params,
          response: {
            200: replied(RedriveReplySchema, "What holds now."),
            ...problems("redrive_not_found", "too_late", "invalid_field", ...requestProblems, ...serviceProblems),
          },
        },
      },
      async (request) => dead.command(request.params.id, command, request.body, tenantOf(request)),
    );
  }

  app.get<{ Params: { id: string } }>(
    "/v1/redrives/:id/outcomes",
    {
      schema: {
        tags: ["dead"],
        operationId: "redriveOutcomes",
        summary: "List what became of each message of a redrive",
        description:
          "In the order in which they were taken, some thousands a page; a page may be empty before the last one.",
        params,
        querystring: {
          type: "object",
          properties: {
            cursor: cursorParameter,
            outcome: { type: "string", description: "Only these, such as dead-again or replay-cap." },
          },
        },
        response: {
          200: replied(RedriveOutcomesSchema, "One page."),
          ...problems("redrive_not_found", ...queryProblems, ...serviceProblems),
        },
      },
    },
    async (request) =>
      dead.outcomes(request.params.id, readQuery(request.raw.url!, ["cursor", "outcome"]), tenantOf(request)),
  );
};
