import type { Socket } from "node:net";
import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import { type ErrorCode, EscapementError, errorTable, isEscapementError } from "../message/errors.ts";
import type { Log } from "../runtime/log.ts";
import { problemOf } from "../wire/problem.ts";
import type { Patience } from "./patience.ts";

/**
 * Every error that leaves by HTTP leaves here, as a problem document with one of our codes; also those of fastify and
 * of Node's HTTP parser. An error that nobody planned is `internal`: logged with its stack, told without.
 */

export const problemType = "application/problem+json; charset=utf-8";

export const replyWithProblem = (reply: FastifyReply, error: EscapementError): FastifyReply => {
  if (error.retryAfterMs !== undefined) reply.header("retry-after", retryAfterSeconds(error.retryAfterMs));
  return reply
    .code(error.status)
    .type(problemType)
    .send(JSON.stringify(problemOf(error)));
};

/** Whole seconds, as the header wants them, and never 0, which would mean "at once". */
const retryAfterSeconds = (retryAfterMs: number): number => Math.max(1, Math.ceil(retryAfterMs / 1000));

export const createErrorHandler =
  (log: Log, patience: Patience) =>
  (error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const known = errorOf(error);
    if (known.code === "internal") {
      log.error({ err: error, method: request.method, route: request.routeOptions.url ?? "" }, "unexpected error");
    }
    dropUnreadBody(request, reply, patience);
    return replyWithProblem(reply, known);
  };

/**
 * We answered before the whole request was here. The rest is thrown away by Node, but only as fast as the peer likes
 * to send it; who takes too long, or has too much, loses the connection.
 */
export const dropUnreadBody = (request: FastifyRequest, reply: FastifyReply, patience: Patience): void => {
  const { raw } = request;
  if (raw.complete || raw.destroyed) {
    // Fastify closes the connection after every body it could not parse; one that was read to its end may stay.
    reply.removeHeader("connection");
    return;
  }
  const { "content-length": declared, "transfer-encoding": chunked } = raw.headers;
  const left = chunked === undefined ? Number(declared ?? 0) : Number.POSITIVE_INFINITY;
  if (left === 0) return;
  if (left > dumpBytesMax) reply.header("connection", "close");
  const wait = patience.begin(() => raw.destroy());
  raw.once("close", () => wait.end());
};

/** Cheaper to read to its end than to make the peer connect anew. */
const dumpBytesMax = 64 * 1024;

/** Ours as it is; fastify's by its code; anything else is a bug. */
export const errorOf = (error: unknown): EscapementError => {
  if (isEscapementError(error)) return error;
  const { code, statusCode } = error as Partial<FastifyError>;
  const mapped = code === undefined ? undefined : fastifyErrors[code];
  if (mapped !== undefined) return new EscapementError(mapped.code, mapped.detail, mapped);
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new EscapementError("invalid_request", "The request cannot be understood.");
  }
  return new EscapementError("internal", errorTable.internal.title);
};

type Mapped = { readonly code: ErrorCode; readonly detail: string; readonly field?: string };

const fastifyErrors: Readonly<Record<string, Mapped>> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: {
    code: "unsupported_media_type",
    detail: "Send the request as application/json; a batch also as application/x-ndjson.",
  },
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: {
    code: "invalid_request",
    detail: "The request's Content-Length is not the length of its body.",
  },
  FST_ERR_BAD_URL: { code: "invalid_request", detail: "The path is not a valid URL." },
  FST_ERR_MAX_PARAM_LENGTH: {
    code: "invalid_id",
    detail: "The id must be the UUID that schedule answered.",
    field: "id",
  },
  // The peer went away while it was sending; nobody reads this.
  ECONNRESET: { code: "invalid_request", detail: "The request was not sent to its end." },
};

/** What Node's HTTP parser refuses never becomes a request; the answer is written to the socket by hand. */
export const answerBrokenRequest = (error: NodeJS.ErrnoException, socket: Socket): void => {
  if (error.code === "ECONNRESET" || !socket.writable || socket.bytesWritten > 0) {
    // After a first reply on this connection a second, unasked one could be taken for the answer to something else.
    socket.destroy();
    return;
  }
  const problem = problemOf(brokenRequest(error.code));
  const body = JSON.stringify(problem);
  const { status } = problem;
  socket.end(
    `HTTP/1.1 ${status} ${reasonPhrases[status] ?? "Bad Request"}\r\nContent-Type: ${problemType}\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
};

const brokenRequest = (code: string | undefined): EscapementError => {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return new EscapementError("request_too_large", "The request's headers are larger than this server reads.");
    case "HPE_CHUNK_EXTENSIONS_OVERFLOW":
      return new EscapementError(
        "request_too_large",
        "The request's chunk extensions are larger than this server reads.",
      );
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new EscapementError("request_timeout", "The request did not arrive in time.");
    default:
      return new EscapementError("invalid_request", "The request is not valid HTTP.");
  }
};

const reasonPhrases: Readonly<Record<number, string>> = {
  400: "Bad Request",
  408: "Request Timeout",
  413: "Content Too Large",
};
