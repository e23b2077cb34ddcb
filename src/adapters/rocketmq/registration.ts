import { code, method } from "../../protocol/messaging-service.ts";
import type { Log } from "../../runtime/log.ts";
import type { Timer, Timers } from "../../runtime/timers.ts";
import { decodeStatusOnly, decodeTelemetry } from "./protocol.ts";
import type { Duplex, Session } from "./session.ts";

/**
 * Keeps a client known at its proxy, which answers no consumer and checks with no producer that it does not know: a
 * telemetry stream on which our settings were sent and answered, and a heartbeat. When the stream ends (a proxy that
 * restarts, a connection that was replaced) it is opened again, sooner at first and later more slowly.
 */
export type Registration = {
  /** True once the proxy knows us, false when it still does not after `timeoutMs` or when `signal` aborts. */
  registered(timeoutMs: number, signal: AbortSignal): Promise<boolean>;
  /** Call when the proxy says that it does not know us after all. */
  renew(): void;
  /** Why we are not registered, for error messages. */
  readonly trouble: string;
  /** Stops, and tells the proxy if it answers quickly. */
  close(): Promise<void>;
};

export type RegistrationOptions = {
  readonly session: Session;
  /** Who we are, as bytes: our settings, the heartbeat and the goodbye. */
  readonly words: { readonly settings: Buffer; readonly heartbeat: Buffer; readonly goodbye: Buffer };
  /** Who we are, for the log. */
  readonly who: Readonly<Record<string, string>>;
  /** What the proxy asks of us on the telemetry stream. */
  readonly onCommand?: (message: Buffer) => void;
  readonly timers: Timers;
  readonly log: Log;
};

/** The proxy forgets a client after 120 s without one. */
const heartbeatMs = 10_000;
const heartbeatTimeoutMs = 3_000;
const reopenFirstMs = 100;
const reopenMaxMs = 2_000;
/** An answer to our settings that takes longer counts as lost, and the stream is opened again. */
const settingsTimeoutMs = 5_000;
/** A goodbye is a courtesy: the proxy finds out by itself, and a stopping process has a second. */
const goodbyeMs = 300;

export const createRegistration = (options: RegistrationOptions): Registration => {
  const { session, words, who, onCommand, timers, log } = options;
  const waiting = new Set<() => void>();
  let stream: Duplex | undefined;
  let isRegistered = false;
  let closed = false;
  let trouble = "its first answer is still awaited";
  let failures = 0;
  let reopenTimer: Timer | undefined;
  let answerTimer: Timer | undefined;
  let heartbeatTimer: Timer | undefined;

  const wake = () => {
    for (const resolve of [...waiting]) resolve();
  };

  const open = () => {
    if (closed) return;
    const opened = session.duplex(
      method.telemetry,
      (message) => {
        const { status, settings } = decodeTelemetry(message);
        if (status.code !== code.ok) trouble = `it refused our settings with ${status.code}: ${status.text}`;
        if (!settings) return onCommand?.(message);
        if (status.code !== code.ok || isRegistered) return;
        answerTimer?.cancel();
        if (failures > 0) log.info({ ...who, failures }, "registered again at the RocketMQ proxy");
        isRegistered = true;
        failures = 0;
        heartbeat();
        wake();
      },
      (failure) => {
        // The status of a refusal came before the end of the stream and says more.
        if (isRegistered || !trouble.startsWith("it refused")) trouble = failure.detail;
        lost();
      },
    );
    stream = opened;
    opened.write(words.settings);
    answerTimer = timers.after(settingsTimeoutMs, () => {
      trouble = `it did not answer our settings within ${settingsTimeoutMs} ms`;
      opened.cancel();
    });
  };

  const lost = () => {
    isRegistered = false;
    stream = undefined;
    answerTimer?.cancel();
    heartbeatTimer?.cancel();
    if (closed) return;
    const waitMs = Math.min(reopenFirstMs * 2 ** Math.min(failures, 10), reopenMaxMs);
    if (failures++ === 0) log.warn({ ...who, trouble, retryInMs: waitMs }, "not registered at the proxy");
    reopenTimer = timers.after(waitMs, open);
  };

  const heartbeat = () => {
    heartbeatTimer = timers.after(heartbeatMs, heartbeat);
    void session
      .unary({
        method: method.heartbeat,
        request: words.heartbeat,
        timeoutMs: heartbeatTimeoutMs,
        decode: decodeStatusOnly,
      })
      .then((reply) => {
        // A connection that is gone ends the stream, too, and that is where it is noticed.
        if (!reply.ok || closed || reply.value.code === code.ok) return;
        log.warn({ ...who, answer: reply.value }, "heartbeat refused, registering again");
        stream?.cancel();
      });
  };

  open();

  return {
    get trouble() {
      return trouble;
    },
    registered(timeoutMs, signal) {
      if (isRegistered || closed || signal.aborted) return Promise.resolve(isRegistered);
      return new Promise((resolve) => {
        const finish = () => {
          timer.cancel();
          waiting.delete(finish);
          signal.removeEventListener("abort", finish);
          resolve(isRegistered);
        };
        const timer = timers.after(timeoutMs, finish);
        waiting.add(finish);
        signal.addEventListener("abort", finish, { once: true });
      });
    },
    renew() {
      stream?.cancel();
    },
    async close() {
      if (closed) return;
      closed = true;
      reopenTimer?.cancel();
      heartbeatTimer?.cancel();
      answerTimer?.cancel();
      if (isRegistered) {
        await session.unary({
          method: method.notifyClientTermination,
          request: words.goodbye,
          timeoutMs: goodbyeMs,
          decode: decodeStatusOnly,
        });
      }
      stream?.cancel();
      wake();
    },
  };
};
