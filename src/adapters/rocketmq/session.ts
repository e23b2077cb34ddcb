import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { Client, type ClientOptions, connectivityState, credentials, type ServiceError } from "@grpc/grpc-js";
import type { Clock } from "../../runtime/clock.ts";
import type { Log } from "../../runtime/log.ts";
import type { Timers } from "../../runtime/timers.ts";
import { createCallHeaders, type RocketmqCredentials } from "./call-headers.ts";
import { createLocalSession, type LocalMessaging } from "./local-session.ts";

/**
 * One connection to a RocketMQ proxy: headers, deadlines, and what failed and how far it got. Requests and replies are
 * bytes here; what they mean is in protocol.ts.
 *
 * It is not the client of rocketmq-client-nodejs, whose start, shutdown and route refresh hold most of that library's
 * traps (README.md lists them). What surprised us:
 * - grpc-js compares deadlines with the machine's wall clock. A set-back clock would make a 3 s deadline an hour, so
 *   timeouts run on our own timers and the proxy is told by the `grpc-timeout` header.
 * - "unavailable" is both "never left this machine" and "lost on the way". Only the second may create a duplicate;
 *   the peer of the failed call tells them apart.
 * - A connection whose other end vanished without a word takes every call until its timeout, for minutes. Two timeouts
 *   in a row without any answer in between open a new one.
 */
export type Session = {
  readonly clientId: string;
  /** Never rejects; an answer that `decode` cannot read is a failure, too. */
  unary<T>(call: UnaryOptions<T>): Promise<Reply<T>>;
  /** Resolves when the stream has ended, with its failure if it did not end well (or `onData` threw). */
  serverStream(options: ServerStreamOptions): Promise<TransportFailure | undefined>;
  /** A stream both ways that stays open; `onEnd` is called once, also after `cancel`. */
  duplex(method: string, onData: (message: Buffer) => void, onEnd: (failure: TransportFailure) => void): Duplex;
  /** Ends the connection and everything on it at once. */
  close(): void;
};

export type SessionOptions = {
  /** `host:port` of a proxy (or of what stands before several). IPv6 in brackets. */
  readonly endpoint: string;
  /** A broker in this process: calls go straight to it, and `endpoint` is only its name. */
  readonly local?: LocalMessaging;
  readonly credentials?: RocketmqCredentials;
  /** Plaintext when absent. */
  readonly tls?: RocketmqTls;
  /** A word in the client id that says what this connection is for, where others can see it. */
  readonly clientMark?: string;
  /** Drop the connection after this long without a call; streams count as calls. Absent: never. */
  readonly idleMs?: number;
  readonly log: Log;
  readonly clock: Clock;
  readonly timers: Timers;
};

export type RocketmqTls = {
  /** PEM of the authorities to trust; the system's when absent. */
  readonly rootCertificates?: Buffer;
  /** PEM of our own certificate and key, for a proxy that asks for one. */
  readonly clientCertificate?: { readonly key: Buffer; readonly chain: Buffer };
  /** The name in the proxy's certificate, when it is not the host of the endpoint. */
  readonly serverName?: string;
};

export type UnaryOptions<T> = {
  readonly method: string;
  readonly request: Buffer;
  readonly timeoutMs: number;
  readonly decode: (body: Buffer) => T;
};

export type ServerStreamOptions = {
  readonly method: string;
  readonly request: Buffer;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly onData: (message: Buffer) => void;
};

export type Duplex = { write(message: Buffer): void; cancel(): void };

export type Reply<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly failure: TransportFailure };

export type TransportFailure = {
  /** A gRPC status code; {@link timedOut} for our own timeout. */
  readonly code: number;
  /** False when the call certainly never left this machine. */
  readonly reachedProxy: boolean;
  readonly detail: string;
};

/** DEADLINE_EXCEEDED. */
export const timedOut = 4;
/** INTERNAL: what came cannot be read. */
export const unreadable = 13;
/** CANCELLED, by us. */
export const canceled = 1;

/** 4 MiB is the largest body a proxy takes; properties and framing come on top. The default of 4 MiB loses that one. */
export const messageBytesMax = 8 * 1024 * 1024;
/** grpc-js waits up to two minutes between connection attempts; a restarted proxy should be found at once. */
const reconnectFirstMs = 100;
const reconnectMaxMs = 1_000;
const silentCallsMax = 2;

const hostAndPort = /^(\[[0-9a-fA-F:.]+\]|[^:/\s;,[\]]+):(\d{1,5})$/;

/** `host:port` as a gRPC target; throws when it is anything else, because gRPC would take it and never connect. */
export const grpcTarget = (endpoint: string): string => {
  const port = Number(hostAndPort.exec(endpoint)?.[2]);
  if (!(port >= 1 && port <= 65_535)) {
    throw new Error(`RocketMQ endpoint must be one host:port such as 127.0.0.1:8081, not "${endpoint}"`);
  }
  return `dns:${endpoint}`;
};

const channelCredentials = (tls: RocketmqTls | undefined) =>
  tls === undefined
    ? credentials.createInsecure()
    : credentials.createSsl(
        tls.rootCertificates ?? null,
        tls.clientCertificate?.key ?? null,
        tls.clientCertificate?.chain ?? null,
      );

const channelOptions = ({ tls, idleMs }: SessionOptions): ClientOptions => ({
  "grpc.max_receive_message_length": messageBytesMax,
  "grpc.max_send_message_length": messageBytesMax,
  "grpc.initial_reconnect_backoff_ms": reconnectFirstMs,
  "grpc.max_reconnect_backoff_ms": reconnectMaxMs,
  // A connection of our own: closing it is then really closing it, and a silent one can be replaced.
  "grpc.use_local_subchannel_pool": 1,
  // Brokers are reached directly; an http_proxy meant for web traffic must not catch them.
  "grpc.enable_http_proxy": 0,
  "grpc.service_config_disable_resolution": 1,
  ...(idleMs === undefined ? {} : { "grpc.client_idle_timeout_ms": idleMs }),
  ...(tls?.serverName === undefined ? {} : { "grpc.ssl_target_name_override": tls.serverName }),
});

const asIs = (bytes: Buffer): Buffer => bytes;
const unreadableFailure = (error: unknown): TransportFailure => ({
  code: unreadable,
  reachedProxy: true,
  detail: `the answer cannot be read: ${error instanceof Error ? error.message : String(error)}`,
});
const closedFailure: TransportFailure = { code: canceled, reachedProxy: false, detail: "the connection was closed" };

export const createSession = (options: SessionOptions): Session =>
  options.local === undefined ? createGrpcSession(options) : createLocalSession(options.local, options);

const createGrpcSession = (options: SessionOptions): Session => {
  const { timers, log, endpoint } = options;
  const target = grpcTarget(endpoint);
  const mark = options.clientMark === undefined ? "" : `@${options.clientMark}`;
  const clientId = `${hostname()}@${process.pid}@${randomBytes(6).toString("hex")}${mark}`;
  const headers = createCallHeaders(clientId, options.clock, options.credentials);
  const connect = () => new Client(target, channelCredentials(options.tls), channelOptions(options));

  let client = connect();
  let closed = false;
  let silentCalls = 0;
  const unaryCalls = new Set<() => void>();
  const streams = new Set<() => void>();

  const isConnected = (of: Client) => of.getChannel().getConnectivityState(false) === connectivityState.READY;

  /** The peer of a call that found no connection is the target itself, which begins with "dns:". */
  const reached = (peer: string): boolean => peer !== "unknown" && !peer.startsWith("dns:");

  const failureOf = (error: ServiceError, peer: string): TransportFailure => ({
    code: error.code ?? canceled,
    reachedProxy: reached(peer),
    detail: error.details ?? error.message,
  });

  const heard = () => {
    silentCalls = 0;
  };

  const notHeard = (of: Client): void => {
    if (of !== client || closed || ++silentCalls < silentCallsMax) return;
    log.warn({ endpoint }, "the RocketMQ proxy has stopped answering on this connection, opening a new one");
    silentCalls = 0;
    client = connect();
    of.close(); // its unary calls still run until their own timeouts
    for (const cancel of [...streams]) cancel();
  };

  return {
    clientId,

    unary<T>({ method, request, timeoutMs, decode }: UnaryOptions<T>): Promise<Reply<T>> {
      if (closed) return Promise.resolve({ ok: false, failure: closedFailure });
      return new Promise((resolve) => {
        const of = client;
        const connectedAtStart = isConnected(of);
        let settled = false;
        const settle = (reply: Reply<T>) => {
          settled = true;
          timer.cancel();
          unaryCalls.delete(cancel);
          resolve(reply);
        };
        const call = of.makeUnaryRequest(method, asIs, asIs, request, headers(timeoutMs), (error, body) => {
          if (settled) return; // our own cancel comes back as an error, which is no sign of life
          if (error !== null) return settle({ ok: false, failure: failureOf(error, call.getPeer()) });
          heard();
          try {
            settle({ ok: true, value: decode(body as Buffer) });
          } catch (unread) {
            settle({ ok: false, failure: unreadableFailure(unread) });
          }
        });
        const cancel = () => {
          settle({ ok: false, failure: { ...closedFailure, reachedProxy: true } });
          call.cancel();
        };
        unaryCalls.add(cancel);
        const timer = timers.after(timeoutMs, () => {
          // A call that waits for a connection during its whole life was never sent.
          const reachedProxy = connectedAtStart || isConnected(of);
          const detail = `no answer from ${endpoint} within ${timeoutMs} ms`;
          settle({ ok: false, failure: { code: timedOut, reachedProxy, detail } });
          call.cancel();
          if (reachedProxy) notHeard(of);
        });
      });
    },

    serverStream({ method, request, timeoutMs, signal, onData }) {
      if (closed || signal.aborted) return Promise.resolve(closedFailure);
      return new Promise((resolve) => {
        const of = client;
        const stream = of.makeServerStreamRequest(method, asIs, asIs, request, headers(timeoutMs));
        const settle = (failure: TransportFailure | undefined) => {
          timer.cancel();
          streams.delete(cancel);
          signal.removeEventListener("abort", cancel);
          resolve(failure);
        };
        const cancel = () => {
          settle(closedFailure);
          stream.cancel();
        };
        stream.on("data", (message: Buffer) => {
          heard();
          try {
            onData(message);
          } catch (unread) {
            settle(unreadableFailure(unread));
            stream.cancel();
          }
        });
        stream.on("end", () => settle(undefined));
        // Stays attached: a canceled stream still emits an error, which would end the process.
        stream.on("error", (error: ServiceError) => settle(failureOf(error, stream.getPeer())));
        const timer = timers.after(timeoutMs, () => {
          settle({ code: timedOut, reachedProxy: true, detail: `no answer from ${endpoint} within ${timeoutMs} ms` });
          stream.cancel();
          notHeard(of);
        });
        streams.add(cancel);
        signal.addEventListener("abort", cancel, { once: true });
      });
    },

    duplex(method, onData, onEnd) {
      const stream = client.makeBidiStreamRequest(method, asIs, asIs, headers(Number.POSITIVE_INFINITY));
      let ended = false;
      const end = (failure: TransportFailure) => {
        if (ended) return;
        ended = true;
        streams.delete(cancel);
        onEnd(failure);
      };
      const cancel = () => {
        end(closedFailure);
        stream.cancel();
      };
      stream.on("data", (message: Buffer) => {
        heard();
        if (ended) return;
        try {
          onData(message);
        } catch (unread) {
          end(unreadableFailure(unread));
          stream.cancel();
        }
      });
      stream.on("end", () => end({ code: 0, reachedProxy: true, detail: "the proxy ended the stream" }));
      stream.on("error", (error: ServiceError) => end(failureOf(error, stream.getPeer())));
      streams.add(cancel);
      return {
        write: (message) => {
          if (!ended) stream.write(message);
        },
        cancel,
      };
    },

    close() {
      closed = true;
      for (const cancel of [...unaryCalls, ...streams]) cancel();
      client.close();
    },
  };
};
