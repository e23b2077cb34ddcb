import { code } from "../../protocol/messaging-service.ts";
import type { Clock } from "../../runtime/clock.ts";
import { BrokerError } from "../broker-error.ts";
import type { ClientSettings } from "./settings.ts";

/**
 * The clients that are there, by the id that each says with every call: what they told on their telemetry streams, and
 * the long polls that they hold open. A client is alive while it calls; it says goodbye, or is forgotten in silence.
 */
export type WriteTelemetry = (message: Buffer) => void;

/** The proxy's own time; clients send a heartbeat every 10 s. */
const silentMsMax = 120_000;
/** Each is a program; more than this is one program that makes up ids. */
const sessionsMax = 10_000;

type ClientSession = {
  readonly clientId: string;
  seenMs: number;
  settings: ClientSettings | undefined;
  /** Usually one; two while a client reconnects. */
  readonly streams: Set<WriteTelemetry>;
  readonly polls: Set<AbortController>;
};

export class ClientSessions {
  readonly #clock: Clock;
  readonly #sessions = new Map<string, ClientSession>();
  /** Round robin over producers. */
  #turn = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Any call is a sign of life. */
  seen(clientId: string): void {
    const session = this.#sessions.get(clientId);
    if (session !== undefined) session.seenMs = this.#clock.monotonicMs();
  }

  isAlive(clientId: string): boolean {
    const session = this.#sessions.get(clientId);
    return session !== undefined && this.#isAlive(session);
  }

  settings(clientId: string): ClientSettings | undefined {
    return this.#sessions.get(clientId)?.settings;
  }

  takeSettings(clientId: string, stream: WriteTelemetry, settings: ClientSettings): void {
    const session = this.#of(clientId);
    session.settings = settings;
    session.streams.add(stream);
  }

  streamEnded(clientId: string, stream: WriteTelemetry): void {
    this.#sessions.get(clientId)?.streams.delete(stream);
  }

  /** @throws BrokerError tooManyRequests */
  pollBegins(clientId: string, poll: AbortController): void {
    this.#of(clientId).polls.add(poll);
  }

  pollEnded(clientId: string, poll: AbortController): void {
    this.#sessions.get(clientId)?.polls.delete(poll);
  }

  /** Its long polls end now: a client that is leaving waits for them. */
  goodbye(clientId: string): void {
    const session = this.#sessions.get(clientId);
    if (session === undefined) return;
    this.#sessions.delete(clientId);
    for (const poll of session.polls) poll.abort();
  }

  endPolls(): void {
    for (const { polls } of this.#sessions.values()) for (const poll of polls) poll.abort();
  }

  /** Where to ask one of the producers that named this topic in their settings; another one each time. */
  producerOf(topic: string): WriteTelemetry | undefined {
    const producers: WriteTelemetry[] = [];
    for (const session of this.#sessions.values()) {
      if (!this.#isAlive(session) || session.settings?.publishing?.topics.includes(topic) !== true) continue;
      const stream = [...session.streams].at(-1);
      if (stream !== undefined) producers.push(stream);
    }
    return producers.length === 0 ? undefined : producers[this.#turn++ % producers.length];
  }

  forgetSilent(): void {
    for (const session of this.#sessions.values()) {
      if (!this.#isAlive(session) && session.streams.size === 0 && session.polls.size === 0) {
        this.#sessions.delete(session.clientId);
      }
    }
  }

  #isAlive({ seenMs }: ClientSession): boolean {
    return this.#clock.monotonicMs() - seenMs <= silentMsMax;
  }

  #of(clientId: string): ClientSession {
    let session = this.#sessions.get(clientId);
    if (session === undefined) {
      if (this.#sessions.size >= sessionsMax) {
        throw new BrokerError(code.tooManyRequests, `${sessionsMax} clients are here already`);
      }
      session = { clientId, seenMs: 0, settings: undefined, streams: new Set(), polls: new Set() };
      this.#sessions.set(clientId, session);
    }
    session.seenMs = this.#clock.monotonicMs();
    return session;
  }
}
