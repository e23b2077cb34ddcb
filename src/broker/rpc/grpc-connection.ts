import { constants, type IncomingHttpHeaders, performServerHandshake, type ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import { method } from "../../protocol/messaging-service.ts";
import type { Log } from "../../runtime/log.ts";
import type { Timer, Timers } from "../../runtime/timers.ts";
import type { Caller, MessagingService } from "./messaging-service.ts";
import type { Address } from "./requests.ts";

/**
 * gRPC over one connection, on node:http2: a message is five bytes (a flag, a length) and its content, a call ends
 * with trailers. grpc-js could do it as well; measured with an echo, its server takes 110 to 140 µs of CPU for a unary
 * call where this takes 65 to 70, and 220 µs for a stream of 33 messages where this takes 100, because here small
 * messages leave together in one frame.
 *
 * Everything a stranger can make us keep is bounded: requests (each, and all together), answers that nobody reads,
 * connections without a preface, and connections whose other end has gone without a word.
 */
export type GrpcParts = {
  readonly service: MessagingService;
  /** Bytes of requests that arrive or are being worked on, over all connections. */
  readonly pending: { bytes: number };
  readonly timers: Timers;
  readonly log: Log;
};

/** 4 MiB of body, properties, and batches up to twice that. */
const requestBytesMax = 8 * 1024 * 1024;
/** What clients say on a telemetry stream is settings. */
const telemetryBytesMax = 1024 * 1024;
/** All requests together: above this the next one is told to come again. */
const pendingBytesMax = 256 * 1024 * 1024;
/** A client that asks and asks on its telemetry stream and never reads. */
const unreadBytesMax = 4 * 1024 * 1024;
/** One Node process has one connection for all of its clients, and each of them a stream or two. */
const streamsMax = 10_000;
const windowBytes = 1024 * 1024;
const connectionWindowBytes = 8 * 1024 * 1024;
/** Of streams, in MiB; node's default of 10 would refuse the 200th long poll. */
const sessionMemoryMiB = 256;
const settingsWaitMs = 10_000;
/** Whoever does not answer a ping has gone without a word, and what it holds open is of no use. */
const pingEveryMs = 30_000;
const pingWaitMs = 15_000;
/** For the answer to be read after the caller's own deadline, or after it is written when there is none. */
const unreadWaitMs = 30_000;
/** Messages up to this leave together; larger ones would be copied for nothing. */
const gatheredBytesMax = 64 * 1024;

const grpc = { ok: "0", invalidArgument: "3", resourceExhausted: "8", unimplemented: "12", internal: "13" } as const;
type GrpcStatus = (typeof grpc)[keyof typeof grpc];

/** Said instead of an exception with a stack, which would cost more than the rest of the call's end. */
const clientLeft = "the client left";

const replyHeaders = { ":status": 200, "content-type": "application/grpc" };
const flagBytes = 5;

export type GrpcConnection = {
  /** No new calls; telemetry ends well, and what is being answered still is. Resolves when the connection has ended. */
  leave(): Promise<void>;
};

/** Serves the connection until it ends. `socket` has begun with an HTTP/2 preface, which is still to be read. */
export const serveGrpc = (socket: Socket, local: Address, parts: GrpcParts): GrpcConnection => {
  const { timers, log } = parts;
  const session = performServerHandshake(socket, {
    maxSessionMemory: sessionMemoryMiB,
    settings: { initialWindowSize: windowBytes, maxConcurrentStreams: streamsMax, enablePush: false },
  });
  const remoteHost = socket.remoteAddress ?? "";
  const telemetry = new Set<ServerHttp2Stream>();
  let timer: Timer = timers.after(settingsWaitMs, () => session.destroy());
  const pingLater = () => {
    timer = timers.after(pingEveryMs, () => {
      if (session.destroyed || session.closed) return;
      timer = timers.after(pingWaitMs, () => session.destroy());
      session.ping(() => {
        timer.cancel();
        if (!session.destroyed) pingLater();
      });
    });
  };
  session.once("remoteSettings", () => {
    timer.cancel();
    session.setLocalWindowSize(connectionWindowBytes);
    pingLater();
  });
  // What a stranger sends may be anything; the session ends then, and that is all.
  session.on("error", (error) => log.debug({ err: error, remoteHost }, "a connection ended with an error"));
  session.on("close", () => timer.cancel());
  session.on("stream", (stream, headers) => {
    stream.on("error", () => {}); // the close that follows is what matters
    if (headers[":path"] === method.telemetry) {
      telemetry.add(stream);
      stream.on("close", () => telemetry.delete(stream));
    }
    serveStream(stream, headers, callerOf(headers, remoteHost, local), parts);
  });
  return {
    leave: () =>
      new Promise((resolve) => {
        if (session.destroyed) return resolve();
        session.on("close", resolve);
        session.close();
        for (const stream of telemetry) if (!stream.writableEnded) stream.end();
      }),
  };
};

const callerOf = (headers: IncomingHttpHeaders, remoteHost: string, local: Address): Caller => {
  const id = headers["x-mq-client-id"];
  return {
    clientId: Array.isArray(id) ? id[0] : id,
    remoteHost,
    authority: headers[":authority"],
    local,
    leftMs: timeoutMs(headers["grpc-timeout"]),
  };
};

const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** `3S`, `2999m`; undefined when there is none or it is not one. */
const timeoutMs = (header: string | string[] | undefined): number | undefined => {
  if (typeof header !== "string") return undefined;
  const [, amount, unit] = /^(\d{1,8})([HMSmun])$/.exec(header) ?? [];
  return amount === undefined || unit === undefined ? undefined : Number(amount) * unitMs[unit]!;
};

const serveStream = (
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  caller: Caller,
  parts: GrpcParts,
): void => {
  const { service } = parts;
  const name = headers[":path"] ?? "";
  if (headers[":method"] !== "POST" || headers["content-type"]?.startsWith("application/grpc") !== true) {
    stream.respond({ ":status": 415 }, { endStream: true });
    stream.resume().close(constants.NGHTTP2_NO_ERROR);
    return;
  }
  if (name === method.telemetry) serveTelemetry(stream, caller, service);
  else if (name === method.receiveMessage) {
    readRequest(stream, parts, (request) => serveReceive(stream, request, caller, parts));
  } else if (service.isUnary(name)) {
    readRequest(stream, parts, async (request) => {
      const reply = await service.unary(name, request, caller);
      if (isGone(stream)) return;
      open(stream);
      stream.end(framed(reply));
    });
  } else refuse(stream, grpc.unimplemented, `there is no method ${name}`);
};

/**
 * A request is one message, and then the client's side of the stream ends. It counts as pending until `take` is done
 * with it, whether or not somebody still waits for the answer.
 */
const readRequest = (
  stream: ServerHttp2Stream,
  { pending, log }: GrpcParts,
  take: (request: Buffer) => Promise<void>,
): void => {
  const parts: Buffer[] = [];
  let bytes = 0;
  let refused = false;
  let taken = false;
  const forget = () => {
    pending.bytes -= bytes;
    bytes = 0;
    parts.length = 0;
  };
  const giveUp = (status: GrpcStatus, text: string) => {
    refused = true;
    forget();
    refuse(stream, status, text);
  };
  stream.on("data", (part: Buffer) => {
    if (refused) return;
    parts.push(part);
    bytes += part.length;
    pending.bytes += part.length;
    if (bytes > requestBytesMax + flagBytes) {
      giveUp(grpc.resourceExhausted, `the request is larger than ${requestBytesMax} bytes`);
    } else if (pending.bytes > pendingBytesMax) {
      giveUp(grpc.resourceExhausted, "too many requests are arriving at once, try again later");
    }
  });
  stream.on("end", () => {
    if (refused) return;
    const whole = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
    if (whole.length < flagBytes) return refuse(stream, grpc.invalidArgument, "there is no message in the call");
    if (whole[0] !== 0) return refuse(stream, grpc.unimplemented, "compressed messages are not supported");
    if (whole.readUInt32BE(1) !== whole.length - flagBytes) {
      return refuse(stream, grpc.invalidArgument, "the call must have exactly one message");
    }
    taken = true;
    void take(whole.subarray(flagBytes))
      .catch((error: unknown) => {
        log.error({ err: error }, "a call failed by a mistake in the broker");
        if (!isGone(stream)) stream.close(constants.NGHTTP2_INTERNAL_ERROR);
      })
      .finally(forget);
  });
  stream.on("close", () => {
    if (!taken) forget();
  });
};

const serveReceive = async (
  stream: ServerHttp2Stream,
  request: Buffer,
  caller: Caller,
  { service, timers }: GrpcParts,
): Promise<void> => {
  if (isGone(stream)) return;
  const gone = new AbortController();
  let timer: Timer | undefined;
  let written = false;
  stream.on("close", () => {
    timer?.cancel();
    if (!written) gone.abort(clientLeft);
  });
  open(stream);
  let gathered: Buffer[] = [];
  let gatheredBytes = 0;
  const flush = () => {
    if (gathered.length > 0) stream.write(framed(...gathered));
    gathered = [];
    gatheredBytes = 0;
  };
  await service.receive(request, caller, gone.signal, (reply) => {
    if (gatheredBytes + reply.length > gatheredBytesMax) flush();
    gathered.push(reply);
    gatheredBytes += reply.length;
  });
  written = true;
  if (isGone(stream)) return;
  timer = timers.after(unreadWaitMs, () => stream.close(constants.NGHTTP2_CANCEL));
  flush();
  stream.end();
};

const serveTelemetry = (stream: ServerHttp2Stream, caller: Caller, service: MessagingService): void => {
  open(stream);
  const side = service.telemetry(caller, (message) => {
    if (isGone(stream) || stream.writableEnded) return;
    if (stream.writableLength > unreadBytesMax) stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
    else stream.write(framed(message));
  });
  let received: Buffer = Buffer.alloc(0);
  stream.on("data", (part: Buffer) => {
    if (stream.writableEnded) return;
    received = received.length === 0 ? part : Buffer.concat([received, part]);
    while (received.length >= flagBytes) {
      const end = flagBytes + received.readUInt32BE(1);
      if (end > telemetryBytesMax) return endWith(stream, grpc.resourceExhausted, "the message is too large");
      if (received.length < end) return;
      if (received[0] !== 0) return endWith(stream, grpc.unimplemented, "compressed messages are not supported");
      try {
        side.onMessage(received.subarray(flagBytes, end));
      } catch (error) {
        return endWith(stream, grpc.invalidArgument, `the message cannot be read: ${(error as Error).message}`);
      }
      received = received.subarray(end);
    }
  });
  stream.on("end", () => {
    if (!stream.writableEnded) stream.end();
  });
  stream.on("close", () => side.onEnd());
};

/** What is written to such a stream throws. */
const isGone = (stream: ServerHttp2Stream): boolean => stream.destroyed || stream.closed;

const framed = (...messages: readonly Buffer[]): Buffer => {
  let bytes = 0;
  for (const message of messages) bytes += flagBytes + message.length;
  const frames = Buffer.allocUnsafe(bytes);
  let at = 0;
  for (const message of messages) {
    frames[at] = 0;
    frames.writeUInt32BE(message.length, at + 1);
    frames.set(message, at + flagBytes);
    at += flagBytes + message.length;
  }
  return frames;
};

/** Headers now, and when all is written the trailers that say that it went well. */
const open = (stream: ServerHttp2Stream): void => {
  stream.respond(replyHeaders, { waitForTrailers: true });
  stream.on("wantTrailers", () => {
    if (!isGone(stream)) stream.sendTrailers(endings.get(stream) ?? { "grpc-status": grpc.ok });
  });
};

/** For streams that end otherwise than well after they were opened. */
const endings = new WeakMap<ServerHttp2Stream, Record<string, string>>();

const endWith = (stream: ServerHttp2Stream, status: GrpcStatus, text: string): void => {
  endings.set(stream, statusHeaders(status, text));
  stream.end();
};

const refuse = (stream: ServerHttp2Stream, status: GrpcStatus, text: string): void => {
  if (isGone(stream) || stream.headersSent) return;
  stream.respond({ ...replyHeaders, ...statusHeaders(status, text) }, { endStream: true });
  // What else it may want to send is of no interest.
  stream.resume().close(constants.NGHTTP2_NO_ERROR);
};

const statusHeaders = (status: GrpcStatus, text: string): Record<string, string> => ({
  "grpc-status": status,
  "grpc-message": encodeURIComponent(text),
});
