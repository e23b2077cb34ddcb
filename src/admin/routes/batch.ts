import { Readable } from "node:stream";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { EscapementError } from "../../message/errors.ts";
import type { BatchReply } from "../../wire/http.ts";
import { problems, requestProblems, serviceProblems } from "../documented-problems.ts";
import type { HttpContext } from "../http-context.ts";
import { answerLines } from "../line-batch.ts";
import { BatchItemReplySchema, BatchReplySchema } from "../reply-schemas.ts";
import { ScheduleRequestSchema } from "../request-schemas.ts";

/**
 * Many messages in: an array that is answered as a whole, or lines that are answered one by one as they come. One bad
 * item does not spoil the rest; each has its own result.
 */
export const batchRoutes = (app: FastifyInstance, context: HttpContext): void => {
  const { limits, admitRequest } = context;
  const lines = ["application/x-ndjson", "application/ndjson"];
  app.addContentTypeParser(lines, (_request, payload, done) => done(null, payload));

  const arrayGate = admitRequest(limits.batchBytesMax);
  // A stream of any length never holds more than one line and one chunk of the network.
  const streamGate = admitRequest(limits.lineBytesMax, true);
  const itemsMax = limits.batchItemsMax;
  const mebibytesMax = Math.floor(limits.batchBytesMax / (1024 * 1024));

  app.post(
    "/v1/messages/batch",
    {
      bodyLimit: limits.batchBytesMax,
      onRequest(request, reply, done) {
        const gate = request.headers["content-type"]?.includes("ndjson") ? streamGate : arrayGate;
        gate.call(this, request, reply, done);
      },
      // A union of two shapes is slower to write by schema than by JSON.stringify.
      serializerCompiler: () => JSON.stringify,
      schema: {
        tags: ["messages"],
        operationId: "scheduleBatch",
        summary: "Schedule many messages",
        description: [
          "Each item has its own result, in order, and one bad item does not spoil the rest; the status is 200 whenever the request could be read.",
          "",
          `\`application/json\`: an array of at most ${itemsMax} items and ${mebibytesMax} MiB, answered as a whole.`,
          "",
          "`application/x-ndjson`: one message per line, without end. Results are streamed back as lines (`BatchItemReply`) while you send; read them while you write, because no more is read from you than you read. Blank lines are not counted. If the upload breaks off, complete lines were accepted and an unfinished one was not.",
        ].join("\n"),
        body: {
          content: {
            "application/json": {
              schema: { type: "array", maxItems: itemsMax, items: { $ref: `${ScheduleRequestSchema.$id}#` } },
            },
            "application/x-ndjson": { schema: { $ref: `${ScheduleRequestSchema.$id}#` } },
          },
        },
        response: {
          200: {
            description: "One result per item.",
            content: {
              "application/json": { schema: { $ref: `${BatchReplySchema.$id}#` } },
              "application/x-ndjson": { schema: { $ref: `${BatchItemReplySchema.$id}#` } },
            },
          },
          ...problems(...requestProblems, "too_many_items", ...serviceProblems),
        },
      },
    },
    async (request, reply) => {
      if (request.body instanceof Readable) {
        const answers = Readable.from(lineAnswers(request, request.body, context), { objectMode: false });
        return reply.type("application/x-ndjson").send(answers);
      }
      return scheduleArray(request, context);
    },
  );
};

const lineAnswers = (request: FastifyRequest, stream: Readable, context: HttpContext): AsyncGenerator<string> => {
  const { intake, limits, patience, safeParse, errorOf, tenantOf } = context;
  const tenant = tenantOf(request);
  return answerLines(stream, {
    schedule: (values) => intake.scheduleBatch(values, tenant),
    errorOf,
    safeParse,
    patience,
    lineBytesMax: limits.lineBytesMax,
    linesPerCall: limits.linesPerCall,
  });
};

const scheduleArray = async (request: FastifyRequest, context: HttpContext): Promise<BatchReply> => {
  const { intake, limits, tenantOf } = context;
  const items = request.body;
  if (!Array.isArray(items)) {
    throw new EscapementError(
      "invalid_request",
      "A batch is a JSON array of messages (or NDJSON, one message a line).",
    );
  }
  if (items.length > limits.batchItemsMax) {
    throw new EscapementError(
      "too_many_items",
      `The batch has ${items.length} items, ${limits.batchItemsMax} are allowed; send several, or NDJSON.`,
    );
  }
  const results = await intake.scheduleBatch(items, tenantOf(request));
  const accepted = results.filter((result) => "message" in result).length;
  return { accepted, rejected: results.length - accepted, results };
};
