import type { BatchReply, MessageReply, Problem } from "../wire/http.ts";
import { BatchSource } from "./batch-source.ts";
import { EscapementApiError, EscapementBatchStoppedError, EscapementInputError } from "./errors.ts";
import { generatedKey, type MessageInput, toScheduleRequest } from "./message-input.ts";
import { effectOf, nextWaitMs } from "./retry.ts";
import { apiError, type Transport } from "./transport.ts";

/**
 * Many messages from an iterable, as few requests, with results in the order of the items.
 *
 * Memory: at most `concurrency` batches are under way, and the source is read only when there is room for another
 * one. Results are handed out as the caller asks for them; a caller that stops asking stops the reading.
 *
 * Order: messages of one message group keep the order of the source. A batch that shares a group with an earlier batch
 * still under way waits for it; all others run side by side. Only an item that the server refused for the moment, and
 * took when it was sent again, comes after what was in its request.
 */

export type BatchOptions = {
  /** Messages per request, 1 to 1,000. Default 200, what the server stores in one step. */
  batchSize?: number;
  /** Requests under way at a time, 1 to 64. Default 4. */
  concurrency?: number;
  /** How long the first message of a request waits for company when the source is slow. Milliseconds, default 50. */
  lingerMs?: number;
  /** As in `schedule`. Default true. */
  idempotent?: boolean;
  /** Called after each request with the sums so far. */
  onProgress?: (progress: BatchProgress) => void;
  /** Ends the batch: what was sent stays scheduled, the iterator throws the signal's reason. */
  signal?: AbortSignal;
  /** For each request, in milliseconds. Default: the client's. */
  timeoutMs?: number;
};

export type BatchProgress = {
  /** Messages that have a result. */
  done: number;
  accepted: number;
  rejected: number;
};

/** The result of one item; `index` counts the items of the source from 0. Exactly one of `message` and `error`. */
export type BatchResult =
  | { index: number; message: MessageReply; error?: undefined }
  | { index: number; message?: undefined; error: EscapementApiError | EscapementInputError };

/** About 1 MB a request: large enough to pay for its round trip, small enough for four of them in memory. */
const requestBytesMax = 1_000_000;

/** An item on its way: its JSON, or why it has none. */
type Item = {
  readonly index: number;
  readonly json: string;
  readonly problem?: EscapementInputError;
  readonly ownKey: boolean;
  readonly repeatable: boolean;
  readonly group: string | undefined;
};

type Running = {
  readonly first: number;
  readonly groups: ReadonlySet<string>;
  readonly results: Promise<BatchResult[]>;
};

export async function* runBatch(
  transport: Transport,
  messages: AsyncIterable<MessageInput> | Iterable<MessageInput>,
  options: BatchOptions,
): AsyncGenerator<BatchResult, void, undefined> {
  const concurrency = wholeNumber(options.concurrency ?? 4, "concurrency", 64);
  const stopping = new AbortController();
  const signal = options.signal === undefined ? stopping.signal : AbortSignal.any([stopping.signal, options.signal]);
  const source = new BatchSource<Item>(
    prepared(messages, options.idempotent ?? true),
    {
      itemsMax: wholeNumber(options.batchSize ?? 200, "batchSize", 1_000),
      bytesMax: requestBytesMax,
      lingerMs: options.lingerMs ?? 50,
    },
    (item) => item.json.length,
  );
  const sums = { done: 0, accepted: 0, rejected: 0 };
  const running: Running[] = [];
  let next: Promise<Item[] | undefined> | undefined;
  let more = true;
  let sourceFailure: { readonly error: unknown } | undefined;

  const start = (items: Item[]): void => {
    const groups = new Set(items.flatMap(({ group }) => (group === undefined ? [] : [group])));
    const before = running
      .filter((other) => [...other.groups].some((group) => groups.has(group)))
      .map(({ results }) => results);
    const results = Promise.all(before).then(() => sendItems(transport, items, { ...options, signal }));
    // It is awaited in its turn; until then a failure must not count as unhandled.
    results.catch(() => {});
    running.push({ first: items[0]!.index, groups, results });
  };

  try {
    for (;;) {
      options.signal?.throwIfAborted();
      if (more && next === undefined && running.length < concurrency) next = settledLater(source.next());
      const head = running[0];
      if (head === undefined && next === undefined) break;
      const ready = await firstOf(next, head?.results, signal);
      if (ready === "source") {
        try {
          const items = await next;
          if (items === undefined) more = false;
          else start(items);
        } catch (error) {
          more = false;
          sourceFailure = { error };
        }
        next = undefined;
      } else if (ready === "head") {
        running.shift();
        let results: BatchResult[];
        try {
          results = await head!.results;
        } catch (error) {
          options.signal?.throwIfAborted();
          throw new EscapementBatchStoppedError(head!.first, error);
        }
        count(sums, results);
        options.onProgress?.({ ...sums });
        yield* results;
      }
    }
    if (sourceFailure !== undefined) throw sourceFailure.error;
  } finally {
    stopping.abort();
    source.stop();
  }
}

async function* prepared(
  messages: AsyncIterable<MessageInput> | Iterable<MessageInput>,
  idempotent: boolean,
): AsyncGenerator<Item, void, undefined> {
  let index = 0;
  for await (const message of messages) yield prepare(message, index++, idempotent);
}

const prepare = (message: MessageInput, index: number, idempotent: boolean): Item => {
  try {
    const request = toScheduleRequest(message);
    const ownKey = request.key !== undefined;
    const named = ownKey || !idempotent ? request : { ...request, key: generatedKey() };
    const json = JSON.stringify(named);
    return { index, json, ownKey, repeatable: ownKey || idempotent, group: request.messageGroup };
  } catch (error) {
    const problem =
      error instanceof EscapementInputError
        ? error
        : new EscapementInputError(`The message cannot be written as JSON: ${(error as Error).message}`, "message");
    return { index, json: "", problem, ownKey: false, repeatable: true, group: undefined };
  }
};

type SendOptions = Pick<BatchOptions, "timeoutMs"> & { readonly signal: AbortSignal };

/** Sends until every item has a result, retrying only the items for which that helps. Throws when no result can be had. */
const sendItems = async (
  transport: Transport,
  items: readonly Item[],
  options: SendOptions,
): Promise<BatchResult[]> => {
  const results = new Map<number, BatchResult>();
  for (const { index, problem } of items) if (problem !== undefined) results.set(index, { index, error: problem });
  let open = items.filter(({ problem }) => problem === undefined);
  for (let attempt = 1; open.length > 0; attempt++) {
    const replies = await sendOnce(transport, open, options);
    let longestWaitMs = 0;
    const again: Item[] = [];
    open.forEach((item, i) => {
      const reply = replies[i]!;
      if ("message" in reply) {
        const deduplicated = item.ownKey && reply.message.deduplicated;
        results.set(item.index, { index: item.index, message: { ...reply.message, deduplicated } });
        return;
      }
      const failure = { kind: "reply", status: reply.error.status, code: reply.error.code } as const;
      const waitMs = nextWaitMs(failure, attempt, item.repeatable, transport.retry, Math.random());
      if (waitMs === undefined) {
        const error = apiError(reply.error, reply.error.status, { attempts: attempt, effect: effectOf(failure) });
        results.set(item.index, { index: item.index, error });
      } else {
        again.push(item);
        longestWaitMs = Math.max(longestWaitMs, waitMs);
      }
    });
    open = again;
    if (open.length > 0) await transport.wait(longestWaitMs, options.signal);
  }
  return items.map(({ index }) => results.get(index)!);
};

type ItemReply = { readonly message: MessageReply } | { readonly error: Problem };

/** One request for the items, or two of half the size where the server says that it is too large. */
const sendOnce = async (transport: Transport, items: readonly Item[], options: SendOptions): Promise<ItemReply[]> => {
  try {
    const { value } = await transport.call({
      method: "POST",
      path: "/v1/messages/batch",
      body: `[${items.map(({ json }) => json).join(",")}]`,
      repeatable: items.every(({ repeatable }) => repeatable),
      signal: options.signal,
      timeoutMs: options.timeoutMs,
    });
    const results = (value as Partial<BatchReply>).results;
    if (Array.isArray(results) && results.length === items.length) return results;
    throw new EscapementApiError(
      "unexpected_reply",
      `The server answered a batch of ${items.length} without ${items.length} results.`,
      { status: 200, effect: "unknown", attempts: 1 },
    );
  } catch (error) {
    if (!(error instanceof EscapementApiError) || error.status !== 413) throw error;
    if (items.length === 1) return [{ error: asProblem(error) }];
    const half = Math.ceil(items.length / 2);
    const first = await sendOnce(transport, items.slice(0, half), options);
    return [...first, ...(await sendOnce(transport, items.slice(half), options))];
  }
};

const asProblem = (error: EscapementApiError): Problem => ({
  type: "about:blank",
  title: error.code,
  status: error.status,
  code: error.code,
  detail: error.message,
  ...(error.field === undefined ? {} : { field: error.field }),
});

const count = (sums: BatchProgress, results: readonly BatchResult[]): void => {
  sums.done += results.length;
  for (const result of results) {
    if (result.error === undefined) sums.accepted++;
    else sums.rejected++;
  }
};

/** The same promise, marked as handled: it may be left behind when the caller stops early. */
const settledLater = <T>(promise: Promise<T>): Promise<T> => {
  promise.catch(() => {});
  return promise;
};

/**
 * Which comes first. An abort makes the requests under way fail and so shows itself as `head`; only a wait for the
 * source alone has to listen for it.
 */
const firstOf = async (
  source: Promise<unknown> | undefined,
  head: Promise<unknown> | undefined,
  signal: AbortSignal,
): Promise<"source" | "head" | "aborted"> => {
  const ready: Promise<"source" | "head" | "aborted">[] = [];
  const over = new AbortController();
  if (source !== undefined) ready.push(whenSettled(source, "source"));
  if (head !== undefined) ready.push(whenSettled(head, "head"));
  else
    ready.push(
      new Promise((resolve) => {
        signal.addEventListener("abort", () => resolve("aborted"), { once: true, signal: over.signal });
      }),
    );
  try {
    return await Promise.race(ready);
  } finally {
    over.abort();
  }
};

const whenSettled = <T>(promise: Promise<unknown>, name: T): Promise<T> =>
  promise.then(
    () => name,
    () => name,
  );

const wholeNumber = (value: number, field: string, max: number): number => {
  if (Number.isInteger(value) && value >= 1 && value <= max) return value;
  throw new EscapementInputError(`${field} must be a whole number from 1 to ${max}.`, field);
};
