import type { IncomingMessage } from "node:http";
import { EscapementError } from "../message/errors.ts";
import type { Patience } from "./patience.ts";

/**
 * Reads one request body into a buffer: never more than `bytesMax`, never longer than patience lasts. Nothing is
 * inflated: compressed bodies were refused before (a few kilobytes of gzip can be gigabytes).
 */
export const readBody = (
  stream: IncomingMessage,
  bytesMax: number,
  patience: Patience,
  done: (error: Error | null, body?: Buffer) => void,
): void => {
  let first: Buffer | undefined;
  let more: Buffer[] | undefined;
  let length = 0;
  let over = false;

  const end = (error: Error | null, body?: Buffer): void => {
    if (over) return;
    over = true;
    wait.end();
    stream.off("data", onData);
    stream.off("end", onEnd);
    // The error listener stays: an abort after our answer must not become an uncaught exception.
    done(error, body);
  };
  const onData = (chunk: Buffer): void => {
    length += chunk.length;
    if (length > bytesMax) end(requestTooLarge(bytesMax));
    else if (first === undefined) first = chunk;
    else if (more === undefined) more = [first, chunk];
    else more.push(chunk);
  };
  const onEnd = (): void => {
    end(null, more === undefined ? (first ?? Buffer.alloc(0)) : Buffer.concat(more, length));
  };
  const wait = patience.begin(() => {
    end(new EscapementError("request_timeout", "The request's body did not arrive in time."));
  });
  stream.on("data", onData);
  stream.on("end", onEnd);
  stream.on("error", end);
};

export const requestTooLarge = (bytesMax: number): EscapementError =>
  new EscapementError("request_too_large", `The request is larger than ${bytesMax} bytes.`);
