import type { AddressInfo } from "node:net";
import { createConnection, type Socket } from "node:net";
import type { FastifyInstance } from "fastify";
import { MemoryDelayStore } from "../adapters/memory/memory-delay-store.ts";
import { MemoryDocumentStore } from "../adapters/memory/memory-document-store.ts";
import { systemTimers } from "../adapters/system/system-time.ts";
import { DeadRoom } from "../dead/dead-room.ts";
import { BayBook } from "../dependencies/bay-book.ts";
import { DependencyBoard } from "../dependencies/board.ts";
import { DependencyDesk } from "../dependencies/desk.ts";
import { ParkedCount } from "../dependencies/parked-count.ts";
import { admitRef, admitReschedule, admitSchedule } from "../ingest/admit.ts";
import type { Intake, MessageRef } from "../ingest/intake.port.ts";
import { EscapementError, isEscapementError } from "../message/errors.ts";
import { type MessageId, shardOf } from "../message/id.ts";
import type { DelayedMessage } from "../message/message.ts";
import type { MessageState } from "../message/state.ts";
import { epochMs, formatInstant } from "../message/time.ts";
import { PolicyBook } from "../policies/policy-book.ts";
import { type Log, silentLog } from "../runtime/log.ts";
import type { Random } from "../runtime/random.ts";
import type { BatchItemReply, HealthReply, MessageDetails, MessageReply, StatsReply } from "../wire/http.ts";
import { problemOf } from "../wire/problem.ts";
import { type AppOptions, createApp } from "./app.ts";
import type { ConsumerGroups } from "./consumer-groups.port.ts";
import type { Overview } from "./overview.port.ts";

/**
 * For tests of the HTTP app: an intake that checks as the real one does and remembers in a map, an overview with
 * fixed numbers, and a raw socket, because an HTTP client would not send what these tests have to send.
 */

export const testNowMs = epochMs(1_800_000_000_000);

type Kept = { message: DelayedMessage; state: MessageState };

export class RememberingIntake implements Intake {
  /** Everything that would have been stored, in order. */
  readonly accepted: DelayedMessage[] = [];
  /** Calls of any use case, also those that are held up. */
  calls = 0;
  /** Everything that was changed: cancels and reschedules. */
  changes = 0;
  readonly batchSizes: number[] = [];
  /** Thrown by every use case when set. */
  failure: unknown;
  /** Awaited before anything is accepted. */
  gate: Promise<void> = Promise.resolve();
  readonly #kept = new Map<string, Kept>();
  #seed = 0;

  /** As new. */
  reset(): void {
    this.accepted.length = 0;
    this.batchSizes.length = 0;
    this.calls = 0;
    this.changes = 0;
    this.failure = undefined;
    this.gate = Promise.resolve();
    this.#kept.clear();
  }

  async schedule(request: unknown, tenant: string): Promise<MessageReply> {
    await this.#open();
    const { message, onConflict } = admitSchedule(request, {
      tenant,
      nowMs: testNowMs,
      random: this.#random,
      tail: 0x1234,
    });
    const known = this.#kept.get(message.id);
    if (known !== undefined && onConflict === "keep") return { ...replyOf(known), deduplicated: true };
    const kept: Kept = { message, state: "scheduled" };
    this.#kept.set(message.id, kept);
    this.accepted.push(message);
    return replyOf(kept);
  }

  async scheduleBatch(requests: readonly unknown[], tenant: string, firstIndex = 0): Promise<BatchItemReply[]> {
    this.batchSizes.push(requests.length);
    await this.#open();
    const replies: BatchItemReply[] = [];
    for (const [i, request] of requests.entries()) {
      try {
        replies.push({ index: firstIndex + i, message: await this.schedule(request, tenant) });
      } catch (error) {
        if (!isEscapementError(error)) throw error;
        replies.push({ index: firstIndex + i, error: problemOf(error) });
      }
    }
    return replies;
  }

  async cancel(ref: MessageRef, tenant: string): Promise<MessageReply> {
    await this.#open();
    const kept = this.#find(ref, tenant);
    if (kept.state === "delivered") throw new EscapementError("too_late", "The message was delivered.");
    kept.state = "canceled";
    this.changes++;
    return replyOf(kept);
  }

  async reschedule(ref: MessageRef, request: unknown, tenant: string): Promise<MessageReply> {
    await this.#open();
    const change = admitReschedule(request, { nowMs: testNowMs });
    const kept = this.#find(ref, tenant);
    kept.message = { ...kept.message, deliverAtMs: change.deliverAtMs };
    this.changes++;
    return replyOf(kept);
  }

  async get(ref: MessageRef, tenant: string, options: { readonly body: boolean }): Promise<MessageDetails> {
    await this.#open();
    const { message, state } = this.#find(ref, tenant);
    const details: MessageDetails = {
      id: message.id,
      state,
      deliverAt: formatInstant(message.deliverAtMs),
      attempt: message.attempt,
      topic: message.topic,
      keys: [...message.keys],
      properties: Object.fromEntries(message.properties),
      acceptedAt: formatInstant(message.acceptedAtMs),
      bodyBytes: message.body.length,
    };
    if (message.key !== undefined) details.key = message.key;
    if (message.tag !== undefined) details.tag = message.tag;
    if (message.messageGroup !== undefined) details.messageGroup = message.messageGroup;
    if (options.body) details.bodyBase64 = message.body.toString("base64");
    return details;
  }

  /** Does to a message what this fake cannot do by itself. */
  put(id: string, state: MessageState): void {
    this.#kept.get(id)!.state = state;
  }

  async #open(): Promise<void> {
    this.calls++;
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
  }

  #find(ref: MessageRef, tenant: string): Kept {
    const kept = this.#kept.get(admitRef(ref, tenant));
    if (kept === undefined) throw new EscapementError("not_found", "No message with this id or key.");
    return kept;
  }

  readonly #random: Random = {
    float: () => 0.5,
    bytes: (target) => {
      this.#seed++;
      new DataView(target.buffer, target.byteOffset).setUint32(2, this.#seed);
      return target;
    },
  };
}

const replyOf = ({ message, state }: Kept): MessageReply => ({
  id: message.id,
  state,
  deliverAt: formatInstant(message.deliverAtMs),
  attempt: message.attempt,
  deduplicated: false,
});

export const testStats: StatsReply = {
  node: "node-1",
  time: "2027-01-15T08:00:00.000Z",
  waiting: { total: 3, byTopic: { orders: 2, "%RETRY%g": 1 } },
  parked: { total: 1, byDependency: { "acct:7": 1 } },
  dueNow: 1,
  claimed: 0,
  dead: 2,
  duePerMinute: [1, 0, 2],
  duePerHour: [3, 0],
  lateness: { count: 9, p50Ms: 1.5, p99Ms: 20, maxMs: 21.25 },
  shards: [
    { shard: 0, owner: "node-1", epoch: 4 },
    { shard: 1, epoch: 0 },
  ],
  members: ["node-1"],
};

export class FixedOverview implements Overview {
  current: HealthReply = { status: "ok", problems: [] };

  async stats(): Promise<StatsReply> {
    return testStats;
  }

  health(): HealthReply {
    return this.current;
  }

  async metrics(): Promise<{ contentType: string; text: string }> {
    return { contentType: "text/plain; version=0.0.4; charset=utf-8", text: "esc_up 1\n" };
  }
}

export type TestApp = {
  readonly app: FastifyInstance;
  readonly policies: PolicyBook;
  readonly intake: RememberingIntake;
  readonly overview: FixedOverview;
  /** What the dead lie in: the real room on a store in memory. */
  readonly store: MemoryDelayStore;
  /** Errors that were logged as bugs. */
  readonly bugs: unknown[];
};

export const testApp = (options: Pick<AppOptions, "limits" | "tenantOf"> = {}): TestApp => {
  const intake = new RememberingIntake();
  const overview = new FixedOverview();
  const groups: ConsumerGroups = {
    prepare: async (group) => ({ group, retryTopic: `ESC_RETRY_${group}`, ingestTopic: "ESC_INGEST" }),
  };
  const bugs: unknown[] = [];
  const log: Log = { ...silentLog, error: (fields: unknown) => void bugs.push(fields) };
  const clock = { nowMs: () => testNowMs };
  const documents = new MemoryDocumentStore();
  const policies = new PolicyBook({ documents, clock, log });
  const readClock = { ...clock, monotonicMs: () => 0 };
  let drawn = 0;
  const store = new MemoryDelayStore({ shardCount: 2, clockMs: () => testNowMs });
  const dead = new DeadRoom({
    store,
    documents,
    clock: readClock,
    random: { float: () => 0.5, bytes: (target) => target.fill(++drawn) },
    ownTopics: new Set(["ESC_INGEST"]),
    discarded: () => {},
    wake: () => {},
  });
  const board = new DependencyBoard({ documents, clock: readClock, log, node: "node-1", members: () => ["node-1"] });
  const parked = new ParkedCount(store, new BayBook(documents));
  const dependencies = new DependencyDesk({ board, parked, policies, clock: readClock });
  const rooms = { intake, dead, overview, groups, policies, dependencies };
  const app = createApp({ ...rooms, log, timers: systemTimers, ...options });
  return { app, intake, overview, policies, store, bugs };
};

/** A dead message in the store of a test. */
export const buryIn = async ({ store }: TestApp, id: string): Promise<string> => {
  const message: DelayedMessage = {
    id: id as MessageId,
    tenant: "default",
    topic: "orders",
    keys: [],
    properties: new Map(),
    body: Buffer.from("body"),
    deliverAtMs: testNowMs,
    acceptedAtMs: testNowMs,
    attempt: 80,
  };
  const reason = { code: "topic_not_found", detail: "The topic is gone." };
  await store.bury(shardOf(message.id, store.shardCount), [{ message, reason }], epochMs(testNowMs - 1));
  return id;
};

/** Listens on a free port of the loopback and answers the port. */
export const listen = async (app: FastifyInstance): Promise<number> => {
  await app.listen({ host: "127.0.0.1", port: 0 });
  return (app.server.address() as AddressInfo).port;
};

/** A client that sends exactly what it is told. */
export class RawClient {
  readonly socket: Socket;
  received = "";
  /** Resolves when the server has closed the connection. */
  readonly closed: Promise<void>;
  #changed: () => void = () => {};

  constructor(port: number, options: { allowHalfOpen?: boolean } = {}) {
    this.socket = createConnection({ host: "127.0.0.1", port, ...options });
    this.closed = new Promise((resolve) => {
      this.socket.once("close", () => resolve());
    });
    this.socket.on("data", (chunk) => {
      this.received += chunk.toString("latin1");
      this.#changed();
    });
    // A reset is one way for the server to end it.
    this.socket.on("error", () => {});
    this.socket.on("close", () => this.#changed());
    this.socket.on("end", () => this.#changed());
  }

  send(data: string | Buffer): void {
    this.socket.write(data);
  }

  /** Resolves when what was received matches; rejects when the connection closes before. */
  async until(pattern: RegExp): Promise<RegExpMatchArray> {
    for (;;) {
      const match = this.received.match(pattern);
      if (match !== null) return match;
      if (this.socket.destroyed) throw new Error(`closed after ${JSON.stringify(this.received)}`);
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }

  destroy(): void {
    this.socket.destroy();
  }
}
