import type { DependencyDetails, DependencyPage, ForceDependencyRequest } from "../wire/dependencies.ts";
import type { HealthReply, MessageReply, MessageState, StatsReply } from "../wire/http.ts";
import { DeadClient } from "./dead.ts";
import { EscapementApiError, EscapementInputError, EscapementWaitError } from "./errors.ts";
import {
  describeRef,
  generatedKey,
  type MessageChange,
  type MessageInput,
  type MessageRef,
  messagePath,
  type StoredMessage,
  toRescheduleRequest,
  toScheduleRequest,
  toStoredMessage,
} from "./message-input.ts";
import { PolicyCalls } from "./policies.ts";
import { defaultRetryPolicy, type RetryPolicy } from "./retry.ts";
import { type BatchOptions, type BatchResult, runBatch } from "./schedule-batch.ts";
import { type FetchLike, Transport } from "./transport.ts";

/**
 * The client of an Escapement server, and the front door of the package: what users import is exported here. It needs
 * Node 20 or newer and no other package.
 */

export type * from "../wire/dead.ts";
export type { DependencyDetails, DependencyPage, ForceDependencyRequest } from "../wire/dependencies.ts";
export type {
  HealthReply,
  MessageDetails,
  MessageReply,
  MessageState,
  RetryInput,
  StatsReply,
} from "../wire/http.ts";
export { DeadClient, type DeadQuery, type RedriveCommand } from "./dead.ts";
export * from "./errors.ts";
export type {
  BodyInput,
  Duration,
  Instant,
  MessageChange,
  MessageInput,
  MessageRef,
  StoredMessage,
  TimeInput,
} from "./message-input.ts";
export type { RetryPolicy } from "./retry.ts";
export type { BatchOptions, BatchProgress, BatchResult } from "./schedule-batch.ts";
export type { FetchLike } from "./transport.ts";

export type ClientOptions = {
  /** Address of the server; a path is kept as prefix. Default `http://127.0.0.1:7361`. */
  url?: string;
  /** How long one request may take until its whole reply is there, in milliseconds, 1 to 600,000. Default 10,000. */
  timeoutMs?: number;
  /** When and how often to try again. `{ maxAttempts: 1 }` turns retries off. */
  retry?: Partial<RetryPolicy>;
  /** Sent with every request, for example `{ authorization: "Bearer …" }`. */
  headers?: Record<string, string>;
  /** Replaces the global `fetch`, for a proxy or a test. */
  fetch?: FetchLike;
};

/** For one call. */
export type CallOptions = {
  /** Ends the call: it rejects with the signal's reason. The request may have taken effect. */
  signal?: AbortSignal;
  /** For each request of this call, in milliseconds. Default: the client's. */
  timeoutMs?: number;
};

export type ScheduleOptions = CallOptions & {
  /**
   * True (default): a message without a key gets a random one, so that repeating the request after a lost reply is
   * still one message. The price: the server looks the key up, keeps it with the message, and stores messages of one
   * batch in many shards instead of one. False: no key, the cheap path; a request whose outcome is unknown is then not
   * repeated but reported (`effect: "unknown"`).
   */
  idempotent?: boolean;
};

export type WaitOptions = {
  /** How long to wait in all, in milliseconds. Default 30,000. */
  timeoutMs?: number;
  /** Time between two looks, in milliseconds, at least 1. Default 100. */
  pollMs?: number;
  signal?: AbortSignal;
};

const defaultUrl = "http://127.0.0.1:7361";
const timeoutMsDefault = 10_000;
const timeoutMsMax = 600_000;

/**
 * ```ts
 * const escapement = new EscapementClient();
 * const { id } = await escapement.schedule({ topic: "orders", body: "hello", delay: "30m" });
 * await escapement.cancel(id);
 * ```
 *
 * Every method throws {@link EscapementApiError} when the server says no, {@link EscapementUnreachableError} when no
 * answer came after all retries, and {@link EscapementInputError} for arguments that cannot be sent.
 *
 * Retries: refused and broken connections, timeouts, and status 408, 429, 502, 503 and 504 (after `Retry-After` where
 * the server gives one) are tried again, five requests in all with growing waits in between. Only requests whose
 * second copy does no harm are repeated after an unknown outcome: reads, cancels, reschedules, and messages with a
 * key, which unless told otherwise is every message.
 */
export class EscapementClient {
  /** What could not be delivered: look at it, remove it, bring it back. */
  readonly dead: DeadClient;
  readonly #transport: Transport;

  constructor(options: ClientOptions = {}) {
    const { url = defaultUrl, timeoutMs = timeoutMsDefault, retry = {}, headers = {} } = options;
    this.#transport = new Transport({
      url,
      timeoutMs: inRange(timeoutMs, "timeoutMs", 1, timeoutMsMax),
      retry: checkedRetry({ ...defaultRetryPolicy, ...retry }),
      headers: { ...headers },
      fetch: options.fetch ?? ((target, init) => fetch(target, init)),
    });
    this.dead = new DeadClient(this.#transport);
  }

  /**
   * Hands a message over. When this returns, the message is durable.
   *
   * `deduplicated` is true when your own `key` was known and the first message was kept. That includes the case that
   * the first request of this very call arrived, its reply was lost, and the retry met it.
   *
   * With a `delay`, the time counts from the request that arrived first. With `onConflict: "replace"`, a retry may
   * replace again, also a version that somebody else wrote in between.
   */
  async schedule(message: MessageInput, options: ScheduleOptions = {}): Promise<MessageReply> {
    const request = toScheduleRequest(message);
    const ownKey = request.key !== undefined;
    const idempotent = options.idempotent ?? true;
    const reply = await this.#call<MessageReply>({
      method: "POST",
      path: "/v1/messages",
      body: toJson(ownKey || !idempotent ? request : { ...request, key: generatedKey() }),
      repeatable: ownKey || idempotent,
      ...pick(options),
    });
    // Under a key that we drew ourselves, the only earlier message is our own earlier try.
    return ownKey ? reply : { ...reply, deduplicated: false };
  }

  /**
   * Hands many messages over: results come in the order of the items, one for each, and a refused item does not spoil
   * the others. Reads the source only as fast as the server accepts, so it may be endless.
   *
   * ```ts
   * for await (const { index, message, error } of escapement.scheduleBatch(messages)) {
   *   if (error) console.error(`item ${index}: ${error.code}`);
   * }
   * ```
   *
   * Nothing is sent until the iteration begins. Leaving the loop early aborts the requests under way; their messages
   * may or may not be stored. Throws {@link EscapementBatchStoppedError} when the server stays away, and what the
   * source throws, after the results of the items before.
   */
  scheduleBatch(
    messages: AsyncIterable<MessageInput> | Iterable<MessageInput>,
    options: BatchOptions = {},
  ): AsyncGenerator<BatchResult, void, undefined> {
    return runBatch(this.#transport, messages, options);
  }

  /**
   * Takes a message back. When this returns, no copy will ever be sent; canceling twice is fine.
   * Codes: `too_late` (it is being sent, or has ended otherwise), `not_found`.
   */
  async cancel(ref: MessageRef, options: CallOptions = {}): Promise<MessageReply> {
    return this.#call({ method: "DELETE", path: messagePath(ref), repeatable: true, ...pick(options) });
  }

  /**
   * Gives a waiting message another time, and as you like another body, properties or expiry.
   * Codes: `too_late`, `not_found`. A `too_late` with `effect: "unknown"` can mean that an earlier try of this call
   * took effect and the message was then sent.
   */
  async reschedule(ref: MessageRef, change: MessageChange, options: CallOptions = {}): Promise<MessageReply> {
    const body = toJson(toRescheduleRequest(change));
    return this.#call({ method: "PATCH", path: messagePath(ref), body, repeatable: true, ...pick(options) });
  }

  /**
   * What is known of a message; with `body: true` also its bytes. After a message has ended only its outcome is kept,
   * for an hour by default; then the code is `not_found`.
   */
  async get(ref: MessageRef, options: CallOptions & { body?: boolean } = {}): Promise<StoredMessage> {
    const path = messagePath(ref, options.body ? { body: "true" } : {});
    return toStoredMessage(await this.#call({ method: "GET", path, repeatable: true, ...pick(options) }));
  }

  /**
   * Waits until the message is in the state, or one of the states, by asking again and again: made for tests. A
   * message that is not there yet is waited for too. Throws {@link EscapementWaitError}.
   */
  async waitFor(
    ref: MessageRef,
    wanted: MessageState | readonly MessageState[],
    options: WaitOptions = {},
  ): Promise<StoredMessage> {
    const states: readonly string[] = typeof wanted === "string" ? [wanted] : wanted;
    const timeoutMs = inRange(options.timeoutMs ?? 30_000, "timeoutMs", 1, Number.MAX_SAFE_INTEGER);
    const pollMs = inRange(options.pollMs ?? 100, "pollMs", 1, timeoutMsMax);
    const untilMs = performance.now() + timeoutMs;
    for (;;) {
      const last = await this.#getOrNothing(ref, options.signal);
      if (last !== undefined && states.includes(last.state)) return last;
      const goal = `Message ${describeRef(ref)} should become ${states.join(" or ")}`;
      if (last !== undefined && endedStates.has(last.state)) {
        const reason = last.reason === undefined ? "" : ` (${last.reason.code}: ${last.reason.detail})`;
        throw new EscapementWaitError("wait_ended", `${goal} but ended as ${last.state}${reason}.`, last);
      }
      const leftMs = untilMs - performance.now();
      if (leftMs <= 0) {
        const seen = last === undefined ? "was not found" : `is ${last.state}, due ${last.deliverAt}`;
        throw new EscapementWaitError("wait_timeout", `${goal} but after ${timeoutMs} ms it ${seen}.`, last);
      }
      await this.#transport.wait(Math.min(pollMs, leftMs), options.signal);
    }
  }

  /** What waits, what is due, how late, who owns which shard. */
  async stats(options: CallOptions = {}): Promise<StatsReply> {
    return this.#call({ method: "GET", path: "/v1/stats", repeatable: true, ...pick(options) });
  }

  /** Whether the server is ready to accept, with its problems as sentences. Also returned, not thrown, when it is not. */
  async health(options: CallOptions = {}): Promise<HealthReply> {
    const path = "/health/ready";
    const value = await this.#call<HealthReply>({
      method: "GET",
      path,
      repeatable: true,
      alsoAnswer: [503],
      ...pick(options),
    });
    if (typeof value.status === "string" && Array.isArray(value.problems)) return value;
    throw new EscapementApiError("unexpected_reply", `${this.url}${path} did not answer with a health document.`, {
      status: 200,
      effect: "none",
      attempts: 1,
    });
  }

  /**
   * How the dependencies of the consumers are doing, a page at a time: what is not well, is forced or has messages
   * parked, and what else consumers report to the process that answers.
   */
  async dependencies(options: CallOptions & { cursor?: string; limit?: number } = {}): Promise<DependencyPage> {
    const query = new URLSearchParams();
    if (options.cursor !== undefined) query.set("cursor", options.cursor);
    if (options.limit !== undefined) query.set("limit", String(options.limit));
    const path = query.size === 0 ? "/v1/dependencies" : `/v1/dependencies?${query}`;
    return this.#call({ method: "GET", path, repeatable: true, ...pick(options) });
  }

  /** One dependency. Code: `not_found` where no consumer reports it and nothing is parked for it. */
  async dependency(key: string, options: CallOptions = {}): Promise<DependencyDetails> {
    const path = `/v1/dependencies/${encodeURIComponent(key)}`;
    return this.#call({ method: "GET", path, repeatable: true, ...pick(options) });
  }

  /** Holds a dependency open or closed for a while, or with `auto` leaves it to its breaker again. */
  async forceDependency(
    key: string,
    request: ForceDependencyRequest,
    options: CallOptions = {},
  ): Promise<DependencyDetails> {
    const path = `/v1/dependencies/${encodeURIComponent(key)}/force`;
    return this.#call({ method: "POST", path, body: JSON.stringify(request), repeatable: true, ...pick(options) });
  }

  /** Stored retry policies and their bindings. */
  get policies(): PolicyCalls {
    return new PolicyCalls(this.#transport);
  }

  /** The server's address, as it is used. */
  get url(): string {
    return this.#transport.baseUrl;
  }

  /** Aborts what is under way (it rejects with code `closed`) and refuses what comes later. */
  close(): void {
    this.#transport.close();
  }

  async #getOrNothing(ref: MessageRef, signal: AbortSignal | undefined): Promise<StoredMessage | undefined> {
    try {
      return await this.get(ref, signal === undefined ? {} : { signal });
    } catch (error) {
      if (error instanceof EscapementApiError && error.code === "not_found") return undefined;
      throw error;
    }
  }

  async #call<T>(call: Parameters<Transport["call"]>[0]): Promise<T> {
    return (await this.#transport.call(call)).value as T;
  }
}

// A type-only import cannot bring the table of states along, and the client must not carry server code.
const endedStates: ReadonlySet<MessageState> = new Set(["delivered", "dead", "canceled", "expired"]);

const toJson = (request: object): string => {
  try {
    return JSON.stringify(request);
  } catch (error) {
    throw new EscapementInputError(`The message cannot be written as JSON: ${(error as Error).message}`, "message");
  }
};

const pick = ({ signal, timeoutMs }: CallOptions) => ({
  signal,
  timeoutMs: timeoutMs === undefined ? undefined : inRange(timeoutMs, "timeoutMs", 1, timeoutMsMax),
});

const checkedRetry = (policy: RetryPolicy): RetryPolicy => {
  inRange(policy.maxAttempts, "retry.maxAttempts", 1, 100);
  inRange(policy.initialMs, "retry.initialMs", 1, 60_000);
  inRange(policy.maxMs, "retry.maxMs", 1, 600_000);
  inRange(policy.retryAfterMaxMs, "retry.retryAfterMaxMs", 0, 86_400_000);
  return policy;
};

const inRange = (value: number, field: string, min: number, max: number): number => {
  if (typeof value === "number" && value >= min && value <= max) return value;
  throw new EscapementInputError(`${field} must be a number from ${min} to ${max}.`, field);
};
