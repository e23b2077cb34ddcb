import type { Problem } from "../wire/http.ts";
import {
  type Effect,
  EscapementApiError,
  EscapementClientError,
  EscapementInputError,
  EscapementUnreachableError,
} from "./errors.ts";
import { pause } from "./pause.ts";
import { effectOf, type Failure, nextWaitMs, parseRetryAfter, type RetryPolicy } from "./retry.ts";

/**
 * One call to the server: send, wait for the whole reply, try again where that is safe, or throw an error that says
 * what is known. It knows HTTP and nothing about messages.
 *
 * Connections are kept alive by `fetch` itself. The abort of a try is wired by hand, with one timer and removable
 * listeners, because signals composed over a long-lived signal are released only by the garbage collector.
 */

/** The part of `fetch` that we use, so that a test or a proxy-aware replacement is easy to write. */
export type FetchLike = (
  url: string,
  init: {
    method: string;
    headers: Record<string, string>;
    body?: string;
    signal: AbortSignal;
    redirect: "manual";
  },
) => Promise<{
  status: number;
  headers: { get(name: string): string | null };
  text(): Promise<string>;
}>;

export type Call = {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  /** JSON text. */
  readonly body?: string;
  /** True when a second copy of the request does no harm. */
  readonly repeatable: boolean;
  /** Statuses beside 2xx whose body is the answer and not an error. */
  readonly alsoAnswer?: readonly number[];
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
};

export type TransportOptions = {
  readonly url: string;
  readonly timeoutMs: number;
  readonly retry: RetryPolicy;
  readonly headers: Record<string, string>;
  readonly fetch: FetchLike;
};

/** What a call came to, with the number of requests it took. */
export type Answer = { readonly value: unknown; readonly attempts: number };

export class Transport {
  readonly baseUrl: string;
  readonly retry: RetryPolicy;
  readonly #options: TransportOptions;
  readonly #closing = new AbortController();

  constructor(options: TransportOptions) {
    this.baseUrl = checkedUrl(options.url);
    this.retry = options.retry;
    this.#options = options;
  }

  /** Aborts what is under way and refuses what comes later. */
  close(): void {
    this.#closing.abort(new EscapementClientError("closed", "This client was closed."));
  }

  async call(call: Call): Promise<Answer> {
    let effect: Effect = "none";
    for (let attempts = 1; ; attempts++) {
      const { failure, toError, value } = await this.#once(call);
      if (failure === undefined) return { value, attempts };
      if (effectOf(failure) === "unknown") effect = "unknown";
      const waitMs = nextWaitMs(failure, attempts, call.repeatable, this.retry, Math.random());
      if (waitMs === undefined) throw toError(attempts, effect);
      await this.wait(waitMs, call.signal);
    }
  }

  /** A wait that ends early, with the reason, when the caller aborts or the client is closed. */
  async wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
    const joined = joinSignals([this.#closing.signal, signal]);
    try {
      await pause(ms, joined.signal);
    } finally {
      joined.release();
    }
  }

  async #once(call: Call): Promise<Outcome> {
    const timeoutMs = call.timeoutMs ?? this.#options.timeoutMs;
    const joined = joinSignals([this.#closing.signal, call.signal]);
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      joined.abort();
    }, timeoutMs);
    try {
      joined.signal.throwIfAborted();
      const reply = await this.#options.fetch(this.baseUrl + call.path, {
        method: call.method,
        headers: {
          accept: "application/json, application/problem+json",
          ...(call.body === undefined ? {} : { "content-type": "application/json" }),
          ...this.#options.headers,
        },
        ...(call.body === undefined ? {} : { body: call.body }),
        signal: joined.signal,
        redirect: "manual",
      });
      return this.#read(call, reply.status, reply.headers, await reply.text());
    } catch (cause) {
      if (joined.signal.aborted && !timedOut) throw joined.signal.reason;
      const failure: Failure = !timedOut && neverConnected(cause) ? { kind: "not_connected" } : { kind: "no_reply" };
      const what = timedOut ? `no whole reply within ${timeoutMs} ms` : reasonOf(cause);
      return {
        failure,
        toError: (attempts, effect) =>
          new EscapementUnreachableError(this.#unreachableText(call, what, attempts, effect), {
            effect,
            attempts,
            cause,
          }),
      };
    } finally {
      clearTimeout(timer);
      joined.release();
    }
  }

  #read(call: Call, status: number, headers: { get(name: string): string | null }, text: string): Outcome {
    const value = parseJson(text);
    if ((status >= 200 && status < 300) || call.alsoAnswer?.includes(status)) {
      if (typeof value === "object" && value !== null) return { value };
      return this.#unexpected(call, status, "its body is not JSON");
    }
    const problem = asProblem(value);
    if (problem === undefined) return this.#unexpected(call, status, "its body is not a problem document", headers);
    const retryAfterMs = parseRetryAfter(headers.get("retry-after"), Date.now());
    return {
      failure: { kind: "reply", status, code: problem.code, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) },
      toError: (attempts, effect) => apiError(problem, status, { retryAfterMs, attempts, effect }),
    };
  }

  /** Something answers at this address, but not in our words: a proxy, or another program. */
  #unexpected(call: Call, status: number, what: string, headers?: { get(name: string): string | null }): Outcome {
    const location = headers?.get("location");
    const retryAfterMs = parseRetryAfter(headers?.get("retry-after") ?? null, Date.now());
    const told = location ? `; it redirects to ${location}` : "";
    return {
      failure: {
        kind: "reply",
        status,
        code: "unexpected_reply",
        ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      },
      toError: (attempts, effect) =>
        new EscapementApiError(
          "unexpected_reply",
          `${this.baseUrl} answered ${call.method} ${pathOnly(call.path)} with status ${status}, but ${what}${told}. Is this address an Escapement server?`,
          { status, effect, attempts, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) },
        ),
    };
  }

  #unreachableText(call: Call, what: string, attempts: number, effect: Effect): string {
    const tries = attempts === 1 ? "1 try" : `${attempts} tries`;
    if (effect === "none") return `Cannot reach ${this.baseUrl} (${what}; ${tries}). Nothing was sent.`;
    const reading = call.method === "GET";
    const outcome = reading ? "" : " The outcome is unknown: the request may or may not have taken effect.";
    return `No answer from ${this.baseUrl} (${what}; ${tries}).${outcome}`;
  }
}

type Outcome =
  | { readonly failure?: undefined; readonly toError?: undefined; readonly value: unknown }
  | {
      readonly failure: Failure;
      readonly toError: (attempts: number, effect: Effect) => Error;
      readonly value?: undefined;
    };

/** The error for a problem document, of a whole reply or of one item of a batch. */
export const apiError = (
  problem: Problem,
  status: number,
  details: { retryAfterMs?: number | undefined; attempts: number; effect: Effect },
): EscapementApiError =>
  new EscapementApiError(problem.code, problem.detail ?? problem.title ?? problem.code, {
    status,
    effect: details.effect,
    attempts: details.attempts,
    ...(problem.field === undefined ? {} : { field: problem.field }),
    ...(details.retryAfterMs === undefined ? {} : { retryAfterMs: details.retryAfterMs }),
  });

const asProblem = (value: unknown): Problem | undefined =>
  typeof value === "object" && value !== null && typeof (value as Problem).code === "string"
    ? (value as Problem)
    : undefined;

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

const checkedUrl = (text: string): string => {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new EscapementInputError(`The url is not a URL. Give one like http://127.0.0.1:7361.`, "url");
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw new EscapementInputError(`The url must begin with http:// or https://.`, "url");
  }
  if (url.username !== "" || url.password !== "") {
    // Not echoed: it holds a password.
    throw new EscapementInputError("The url must not hold credentials; put them into headers.authorization.", "url");
  }
  if (url.search !== "" || url.hash !== "") throw new EscapementInputError("The url must not have a query.", "url");
  return url.href.replace(/\/+$/, "");
};

// System calls that fail before the first byte of the request leaves, and undici's own name for a slow connect.
const connectingCalls: ReadonlySet<string> = new Set(["connect", "getaddrinfo"]);
const connectingCodes: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/** `fetch` wraps the system's error once; a host with several addresses wraps it once more. */
const neverConnected = (error: unknown): boolean => {
  const cause = error instanceof Error ? error.cause : undefined;
  if (!(cause instanceof Error)) return false;
  const { code, syscall } = cause as NodeJS.ErrnoException;
  return (syscall !== undefined && connectingCalls.has(syscall)) || (code !== undefined && connectingCodes.has(code));
};

const reasonOf = (error: unknown): string => {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const { code, message } = cause as NodeJS.ErrnoException;
  return code ?? message ?? String(error);
};

const pathOnly = (path: string): string => path.split("?", 1)[0]!;

/** One signal that follows several until released; it can also be aborted by itself. */
const joinSignals = (signals: readonly (AbortSignal | undefined)[]) => {
  const controller = new AbortController();
  const followed = signals.filter((signal) => signal !== undefined);
  const listeners = followed.map((signal) => {
    const listener = (): void => controller.abort(signal.reason);
    if (signal.aborted) listener();
    else signal.addEventListener("abort", listener, { once: true });
    return listener;
  });
  return {
    signal: controller.signal,
    abort: (): void => controller.abort(),
    release: (): void => {
      followed.forEach((signal, i) => {
        signal.removeEventListener("abort", listeners[i]!);
      });
    },
  };
};
