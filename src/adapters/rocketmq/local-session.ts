import { randomBytes } from "node:crypto";
import type { Timers } from "../../runtime/timers.ts";
import type { Duplex, Reply, Session, TransportFailure } from "./session.ts";

/**
 * A session with the broker in this very process: the same requests and replies, as bytes, without a connection. So
 * what sends, receives and looks up topics is one code for both, and the broker cannot tell us from any other client.
 */
export type LocalMessaging = {
  unary(method: string, request: Buffer, caller: LocalCaller): Promise<Buffer>;
  /** Resolves when the stream has ended. */
  receive(request: Buffer, caller: LocalCaller, signal: AbortSignal, write: (message: Buffer) => void): Promise<void>;
  telemetry(
    caller: LocalCaller,
    write: (message: Buffer) => void,
  ): { readonly onMessage: (message: Buffer) => void; readonly onEnd: () => void };
};

export type LocalCaller = {
  readonly clientId: string;
  readonly remoteHost: string;
  readonly authority: undefined;
  readonly local: { readonly host: string; readonly port: number };
  /** How much longer it will wait. */
  readonly leftMs: number | undefined;
};

/** What the gRPC codes of session.ts are called there; importing them from it would go in a circle. */
const canceled = 1;
const timedOut = 4;
const internal = 13;

const closedFailure: TransportFailure = { code: canceled, reachedProxy: false, detail: "the broker was closed" };
const failureOf = (error: unknown): TransportFailure => ({
  code: internal,
  reachedProxy: true,
  detail: error instanceof Error ? error.message : String(error),
});

export const createLocalSession = (messaging: LocalMessaging, { timers }: { readonly timers: Timers }): Session => {
  const clientId = `local@${process.pid}@${randomBytes(6).toString("hex")}`;
  const closing = new AbortController();
  const caller = (leftMs: number | undefined): LocalCaller => ({
    clientId,
    remoteHost: "127.0.0.1",
    authority: undefined,
    local: { host: "127.0.0.1", port: 0 },
    leftMs,
  });

  /** Settles at the latest after `timeoutMs`, or when the session is closed. */
  const bounded = <T>(work: Promise<T>, timeoutMs: number): Promise<Reply<T>> =>
    new Promise((resolve) => {
      const settle = (reply: Reply<T>) => {
        timer.cancel();
        closing.signal.removeEventListener("abort", close);
        resolve(reply);
      };
      const close = () => settle({ ok: false, failure: { ...closedFailure, reachedProxy: true } });
      const timer = timers.after(timeoutMs, () =>
        settle({
          ok: false,
          failure: {
            code: timedOut,
            reachedProxy: true,
            detail: `no answer from the broker in this process within ${timeoutMs} ms`,
          },
        }),
      );
      closing.signal.addEventListener("abort", close, { once: true });
      work.then(
        (value) => settle({ ok: true, value }),
        (error: unknown) => settle({ ok: false, failure: failureOf(error) }),
      );
    });

  return {
    clientId,

    async unary({ method, request, timeoutMs, decode }) {
      if (closing.signal.aborted) return { ok: false, failure: closedFailure };
      return bounded(messaging.unary(method, request, caller(timeoutMs)).then(decode), timeoutMs);
    },

    async serverStream({ request, timeoutMs, signal, onData }) {
      if (closing.signal.aborted || signal.aborted) return closedFailure;
      const left = new AbortController();
      const leave = () => left.abort();
      for (const each of [closing.signal, signal]) each.addEventListener("abort", leave, { once: true });
      const reply = await bounded(messaging.receive(request, caller(timeoutMs), left.signal, onData), timeoutMs);
      for (const each of [closing.signal, signal]) each.removeEventListener("abort", leave);
      // Also when its time is over: a poll that stays behind would take messages for nobody.
      leave();
      if (!reply.ok) return reply.failure;
      return signal.aborted ? closedFailure : undefined;
    },

    duplex(_method, onData, onEnd): Duplex {
      let ended = false;
      // Never while the caller is still writing: no connection answers so soon, and nobody expects it.
      const stream = messaging.telemetry(caller(undefined), (message) =>
        queueMicrotask(() => {
          if (!ended) onData(message);
        }),
      );
      const cancel = () => {
        if (ended) return;
        ended = true;
        closing.signal.removeEventListener("abort", cancel);
        stream.onEnd();
        onEnd(closedFailure);
      };
      closing.signal.addEventListener("abort", cancel, { once: true });
      return {
        write: (message) => {
          if (!ended) stream.onMessage(message);
        },
        cancel,
      };
    },

    close: () => closing.abort(),
  };
};
