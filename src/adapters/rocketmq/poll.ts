import type { IncomingMessage } from "../../ingest/topic-source.port.ts";
import { code, method } from "../../protocol/messaging-service.ts";
import type { Timer, Timers } from "../../runtime/timers.ts";
import type { Status } from "./protocol.ts";
import { decodeReceived } from "./received-message.ts";
import type { Registration } from "./registration.ts";
import type { Session } from "./session.ts";

/** One long poll: asks, gathers what comes on the stream, and says what went wrong when nothing came. */
export type Poll = (request: Buffer, signal: AbortSignal) => Promise<readonly IncomingMessage[]>;

export type PollOptions = {
  readonly session: Session;
  readonly registration: Registration;
  /** For error messages. */
  readonly topic: string;
  readonly endpoint: string;
  /** As the requests ask for it. */
  readonly pollMs: number;
  readonly timers: Timers;
  readonly isClosed: () => boolean;
};

/** The shortest wait of a proxy with its default settings, whatever we ask for. */
const proxyPollMsMin = 5_000;
/** For the answer to travel; the proxy refuses polls whose deadline leaves it no time. */
const pollGraceMs = 3_000;
const registrationWaitMs = 3_000;
/**
 * A poll is left this long after it should end. On a busy topic its answer is on the way, with messages that the proxy
 * has already handed out: left at once, they would stay away from everybody until they are visible again.
 */
const leaveGraceMs = 300;

export const createPoll = (options: PollOptions): Poll => {
  const { session, registration, topic, endpoint, pollMs, timers, isClosed } = options;
  const timeoutMs = Math.max(pollMs, proxyPollMsMin) + pollGraceMs;

  return async (request, signal) => {
    if (isClosed() || signal.aborted) return [];
    if (!(await registration.registered(registrationWaitMs, signal))) {
      if (isClosed() || signal.aborted) return [];
      throw new Error(`RocketMQ proxy ${endpoint} does not take us as a consumer: ${registration.trouble}`);
    }
    const messages: IncomingMessage[] = [];
    let status: Status | undefined;
    const onData = (bytes: Buffer) => {
      const part = decodeReceived(bytes);
      if (part.kind === "message") messages.push(part.message);
      else if (part.kind === "status") status = part.status;
    };
    const leave = new AbortController();
    let grace: Timer | undefined;
    const leaveSoon = () => {
      grace = timers.after(leaveGraceMs, () => leave.abort());
    };
    signal.addEventListener("abort", leaveSoon, { once: true });
    const failure = await session.serverStream({
      method: method.receiveMessage,
      request,
      timeoutMs,
      signal: leave.signal,
      onData,
    });
    signal.removeEventListener("abort", leaveSoon);
    grace?.cancel();
    // What has arrived is worth more than how the stream ended: it can be stored and acknowledged.
    if (messages.length > 0 || isClosed() || signal.aborted) return messages;
    if (failure !== undefined) throw new Error(`receiving from ${topic} at ${endpoint} failed: ${failure.detail}`);
    if (status === undefined || status.code === code.ok || status.code === code.messageNotFound) return [];
    // A proxy that has lost our settings answers with an internal error; new settings cure it and harm nothing.
    if (status.code >= code.internalError) registration.renew();
    throw new Error(`receiving from ${topic} was refused with ${status.code}: ${status.text}`);
  };
};
