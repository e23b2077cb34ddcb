import type { onRequestHookHandler } from "fastify";
import { EscapementError } from "../message/errors.ts";
import type { LoadGate } from "./load-gate.ts";
import { requestTooLarge } from "./read-body.ts";

/**
 * Decides by a request's headers whether its body is read at all. Compressed bodies are refused, not inflated, so
 * there is no bomb to defuse. A body of unknown length counts as the largest one.
 */
export const admitRequest =
  (gate: LoadGate) =>
  (bytesMax: number, streamed = false): onRequestHookHandler =>
  (request, reply, done) => {
    const { headers } = request.raw;
    const encoding = headers["content-encoding"];
    if (encoding !== undefined && encoding !== "identity") return done(compressed());
    const declared = declaredBytes(headers["content-length"], headers["transfer-encoding"]);
    if (declared > bytesMax && !streamed && declared !== Number.POSITIVE_INFINITY)
      return done(requestTooLarge(bytesMax));
    const bytes = Math.min(declared, bytesMax);
    if (!gate.enter(bytes)) return done(overloaded());
    reply.raw.once("close", () => gate.leave(bytes));
    done();
  };

const declaredBytes = (length: string | undefined, transferEncoding: string | undefined): number => {
  if (transferEncoding !== undefined) return Number.POSITIVE_INFINITY;
  return length === undefined ? 0 : Number(length);
};

const compressed = (): EscapementError =>
  new EscapementError("unsupported_media_type", "Compressed requests are not read; send it without Content-Encoding.");

const overloaded = (): EscapementError =>
  new EscapementError("overloaded", "More requests are in flight than can be stored; nothing was read, try again.", {
    retryAfterMs: 1_000,
  });
