import type { FastifyInstance, FastifyRequest } from "fastify";
import { EscapementError } from "../../message/errors.ts";
import { type Candidate, type ReplayRequest, readReplay, replayAll } from "../../retry/replay-request.ts";
import { problems, requestProblems, serviceProblems } from "../documented-problems.ts";
import type { HttpContext } from "../http-context.ts";
import { parseJson } from "../json-text.ts";
import { reply as replied } from "../named-schema.ts";
import { RecordedFailureSchema, ReplayRetriesReplySchema, ReplayRetriesRequestSchema } from "../policy-schemas.ts";
import { readQuery } from "../query.ts";
import { readBody } from "../read-body.ts";
import { heldPolicy } from "./retry-policies.ts";

/**
 * What a policy would have done with failures that were recorded. In a scope of its own, because application/x-ndjson is
 * read here as a whole.
 */
export const retryReplayRoutes = (app: FastifyInstance, context: HttpContext): void => {
  const { policies, limits, patience, safeParse, admitRequest, breathe } = context;
  const bytesMax = limits.batchBytesMax;
  app.addContentTypeParser(["application/x-ndjson", "application/ndjson"], (_request, payload, done) => {
    readBody(payload, bytesMax, patience, (error, body) => {
      if (error !== null) return done(error);
      try {
        done(null, new Lines(linesOf(body!).map((line) => parseJson(line, safeParse))));
      } catch (refusal) {
        done(refusal as Error);
      }
    });
  });

  const answer = async (question: ReplayRequest, candidates: readonly Candidate[]) => {
    const { against } = question;
    const other = against === undefined ? [] : [await heldPolicy(policies, against)];
    return replayAll(question, [...candidates, ...other], breathe);
  };
  const candidateOf = ({ candidate }: ReplayRequest): Candidate[] =>
    candidate === undefined ? [] : [{ name: "candidate", policy: candidate }];

  const common = {
    bodyLimit: bytesMax,
    onRequest: admitRequest(bytesMax),
  };
  const schema = {
    tags: ["retries"],
    response: {
      200: replied(ReplayRetriesReplySchema, "What each policy would have done, and what really was."),
      ...problems("invalid_field", "unknown_field", "policy_not_found", ...requestProblems, ...serviceProblems),
    },
  };
  const limitsText =
    "At most 50,000 failures. Between two recorded instants the last failure is taken to go on, and a message to succeed from `succeededAtMs` on; without one, never. Waits are drawn by `seed`.";

  app.post(
    "/v1/retry-policies/replay",
    {
      ...common,
      schema: {
        ...schema,
        operationId: "replayCandidate",
        summary: "Replay recorded failures under a candidate policy",
        description: `Lives through the failures once more, on a virtual clock. ${limitsText}`,
        body: { $ref: `${ReplayRetriesRequestSchema.$id}#` },
      },
    },
    async (request) => {
      if (request.body instanceof Lines) {
        const why = "Lines have no place for a candidate: send JSON, or the lines to /v1/retry-policies/{name}/replay.";
        throw new EscapementError("unsupported_media_type", why);
      }
      readQuery(request.raw.url!, []);
      const question = readReplay(request.body);
      const candidates = candidateOf(question);
      if (candidates.length > 0) return answer(question, candidates);
      throw new EscapementError("invalid_field", "candidate is missing; give a policy to try.", { field: "candidate" });
    },
  );

  app.post<{ Params: { name: string } }>(
    "/v1/retry-policies/:name/replay",
    {
      ...common,
      schema: {
        ...schema,
        operationId: "replayPolicy",
        summary: "Replay recorded failures under a stored policy",
        description: `As JSON, with a candidate to compare with as you like; or as lines, one failure each, with \`against\`, \`seed\` and \`messages\` in the query. ${limitsText}`,
        params: {
          type: "object",
          properties: { name: { type: "string", description: "A name, or name@version." } },
          required: ["name"],
        },
        querystring: {
          type: "object",
          properties: {
            against: { type: "string", description: "With lines: another policy to compare with." },
            seed: { type: "integer", minimum: 0, description: "With lines." },
            messages: { type: "boolean", description: "With lines: also what became of each message." },
          },
        },
        body: {
          content: {
            "application/json": { schema: { $ref: `${ReplayRetriesRequestSchema.$id}#` } },
            "application/x-ndjson": { schema: { $ref: `${RecordedFailureSchema.$id}#` } },
          },
        },
      },
    },
    async (request) => {
      const question = readReplay(questionOf(request));
      const held = await heldPolicy(policies, request.params.name);
      return answer(question, [held, ...candidateOf(question)]);
    },
  );
};

class Lines {
  readonly values: readonly unknown[];

  constructor(values: readonly unknown[]) {
    this.values = values;
  }
}

const newline = 10;

const linesOf = (bytes: Buffer): Buffer[] => {
  const lines: Buffer[] = [];
  for (let start = 0; start < bytes.length; ) {
    const found = bytes.indexOf(newline, start);
    const end = found < 0 ? bytes.length : found;
    const line = bytes.subarray(start, end);
    // A carriage return, or nothing, is no line.
    if (line.length > 1 || (line.length === 1 && line[0] !== 13)) lines.push(line);
    start = end + 1;
  }
  return lines;
};

const questionOf = (request: FastifyRequest): unknown => {
  if (!(request.body instanceof Lines)) {
    readQuery(request.raw.url!, []);
    return request.body;
  }
  const { against, seed, messages } = readQuery(request.raw.url!, ["against", "seed", "messages"]);
  return {
    failures: request.body.values,
    ...(against === undefined ? undefined : { against }),
    ...(seed === undefined ? undefined : { seed: seed === "" ? Number.NaN : Number(seed) }),
    ...(messages === undefined ? undefined : { messages }),
  };
};
