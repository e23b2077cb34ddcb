import { MemoryDelayStore } from "../../adapters/memory/memory-delay-store.ts";
import { MemoryDocumentStore } from "../../adapters/memory/memory-document-store.ts";
import type { StoredMessage } from "../../delay/delay-store.port.ts";
import { type MessageId, shardOf, timeOrderedId } from "../../message/id.ts";
import type { DelayedMessage } from "../../message/message.ts";
import { durationMs, epochMs } from "../../message/time.ts";
import type { RetryEnvelope } from "../../retry/envelope.ts";
import { encodeEnvelope } from "../../retry/envelope-codec.ts";
import type { Clock } from "../../runtime/clock.ts";
import { silentLog } from "../../runtime/log.ts";
import type { Random } from "../../runtime/random.ts";
import type { RedriveReply } from "../../wire/dead.ts";
import { DeadRoom } from "../dead-room.ts";
import { RedriveLoop } from "../redrive-loop.ts";
import { RedriveReports } from "../redrive-reports.ts";

/**
 * A world for tests of this room: the memory store, documents, a clock that is moved by hand, processes that may stop
 * at any point, and a dispatcher that sends what is due or fails, as told.
 */
export const t0 = epochMs(1_800_000_000_000);

export class DeadWorld {
  nowMs: number = t0;
  readonly store: MemoryDelayStore;
  readonly documents = new MemoryDocumentStore();
  readonly clock: Clock = { nowMs: () => epochMs(this.nowMs), monotonicMs: () => this.nowMs };
  readonly room: DeadRoom;
  readonly processes = new Map<string, Process>();
  /** Every send, in order: what, when, and from which topic's point of view. */
  readonly sent: { readonly id: MessageId; readonly atMs: number; readonly message: DelayedMessage }[] = [];
  discarded = 0;
  /** How far the clock is moved at once. */
  stepMs = 100;
  /** What becomes of a send. Default: delivered. */
  outcomeOf: (message: DelayedMessage) => "delivered" | "dead" = () => "delivered";
  #made = 0;
  readonly #epochs: number[] = [];

  constructor(shardCount = 4) {
    this.store = new MemoryDelayStore({ shardCount, clockMs: () => this.nowMs });
    this.room = new DeadRoom({
      store: this.store,
      documents: this.documents,
      clock: this.clock,
      random: seededRandom(7),
      ownTopics: new Set(["ESC_INGEST"]),
      discarded: (count) => {
        this.discarded += count;
      },
      wake: () => {
        for (const { loop } of this.processes.values()) loop.wake();
      },
    });
  }

  process(node: string): Process {
    const { store, documents, clock } = this;
    const loop = new RedriveLoop({
      store,
      documents,
      clock,
      node,
      log: silentLog,
      ownTopics: new Set(["ESC_INGEST"]),
      window: { owns: () => false, offer: () => false },
    });
    const process = { loop, reports: new RedriveReports(documents, node, silentLog), nextAtMs: 0, reportAtMs: 0 };
    this.processes.set(node, process);
    return process;
  }

  message(parts: Partial<DelayedMessage> = {}): DelayedMessage {
    const i = ++this.#made;
    const chance = seededRandom(i).bytes(new Uint8Array(10));
    const id = parts.id ?? timeOrderedId(t0, chance, i % 65_536);
    return {
      id,
      tenant: "default",
      topic: "orders",
      keys: [],
      properties: new Map([["color", "red"]]),
      body: Buffer.from(`body ${i}`),
      deliverAtMs: t0,
      acceptedAtMs: t0,
      attempt: 0,
      ...parts,
    };
  }

  /** A message that a consumer gave up. */
  consumers(envelope: Partial<RetryEnvelope> = {}, parts: Partial<DelayedMessage> = {}): DelayedMessage {
    const text = encodeEnvelope({ ...envelopeOf(this.#made), ...envelope })!;
    return this.message({ topic: "ESC_RETRY_billing", properties: new Map([["ESC_RETRY", text]]), ...parts });
  }

  async bury(
    message: DelayedMessage,
    code = "topic_not_found",
    detail = "There is no such topic.",
  ): Promise<MessageId> {
    const shard = shardOf(message.id, this.store.shardCount);
    await this.store.bury(shard, [{ message, reason: { code, detail } }], epochMs(this.nowMs));
    return message.id;
  }

  async buryMany(count: number, parts: Partial<DelayedMessage> = {}): Promise<MessageId[]> {
    const ids: MessageId[] = [];
    for (let i = 0; i < count; i++) ids.push(await this.bury(this.message(parts)));
    return ids;
  }

  async get(id: MessageId): Promise<StoredMessage | undefined> {
    return (await this.store.get(shardOf(id, this.store.shardCount), [id]))[0];
  }

  async start(request: object): Promise<RedriveReply> {
    const reply = await this.room.redrive({ reason: "a test", filter: {}, ...request }, "default");
    if ("dryRun" in reply) throw new Error("was a dry run");
    return reply;
  }

  show(id: string): Promise<RedriveReply> {
    return this.room.redriveOf(id, "default");
  }

  command(id: string, command: "pause" | "resume" | "cancel"): Promise<RedriveReply> {
    return this.room.command(id, command, undefined, "default");
  }

  /** Lets time pass, everything running; ends early when `isEnough`. A process that throws is told and goes on. */
  async pass(ms: number, isEnough: () => Promise<boolean> | boolean = () => false): Promise<void> {
    const untilMs = this.nowMs + ms;
    while (this.nowMs < untilMs) {
      for (const [node, process] of this.processes) {
        if (process.reportAtMs <= this.nowMs) process.reportAtMs = this.nowMs + (await process.reports.runOnce());
        if (process.nextAtMs > this.nowMs) continue;
        try {
          process.nextAtMs = this.nowMs + (await process.loop.runOnce());
        } catch (error) {
          if (!(error instanceof Crash)) throw error;
          this.processes.delete(node);
        }
      }
      await this.dispatch();
      if (await isEnough()) return;
      this.nowMs += this.stepMs;
    }
  }

  async untilState(id: string, ...states: string[]): Promise<RedriveReply> {
    let last = await this.show(id);
    await this.pass(3_600_000, async () => {
      last = await this.show(id);
      return states.includes(last.state);
    });
    if (!states.includes(last.state)) throw new Error(`still ${last.state}: ${JSON.stringify(last)}`);
    return last;
  }

  /** Sends everything that is due. */
  async dispatch(): Promise<void> {
    const nowMs = epochMs(this.nowMs);
    for (let shard = 0; shard < this.store.shardCount; shard++) {
      if (this.#epochs[shard] === undefined) {
        const taken = await this.store.acquire(shard, "dispatcher", durationMs(1e12));
        this.#epochs[shard] = taken.outcome === "acquired" ? taken.epoch : 0;
      }
      const epoch = this.#epochs[shard]!;
      for (;;) {
        const { ids } = await this.store.near(shard, epochMs(0), nowMs, undefined, 200);
        if (ids.length === 0) break;
        const { claimed } = await this.store.claim(shard, epoch, ids, nowMs, Number.MAX_SAFE_INTEGER);
        await this.store.settle(
          shard,
          epoch,
          claimed.map((message) => {
            this.sent.push({ id: message.id, atMs: this.nowMs, message });
            return this.outcomeOf(message) === "delivered"
              ? { kind: "delivered", id: message.id }
              : { kind: "bury", id: message.id, reason: { code: "topic_not_found", detail: "Still none." } };
          }),
          nowMs,
        );
      }
    }
  }

  get sentIds(): MessageId[] {
    return this.sent.map(({ id }) => id);
  }
}

type Process = { readonly loop: RedriveLoop; readonly reports: RedriveReports; nextAtMs: number; reportAtMs: number };

/** Thrown at a failpoint: the process is gone, and what it had written is there. */
export class Crash extends Error {}

export const envelopeOf = (i: number): RetryEnvelope => ({
  group: "billing",
  originTopic: "payments",
  originId: `01ABCDEF${i}@10.0.0.7`,
  originBornAtMs: epochMs(t0 - 60_000),
  hop: 4,
  attempt: 4,
  crashes: 1,
  firstFailedAtMs: epochMs(t0 - 50_000),
  parkedMs: durationMs(0),
  previousDelayMs: durationMs(4_000),
  policy: "default@3",
  history: [
    {
      attempt: 4,
      atMs: epochMs(t0 - 1_000),
      class: "transient",
      code: "ECONNREFUSED",
      fingerprint: "a1b2c3d4",
      text: "connect ECONNREFUSED 10.0.0.9:443",
    },
  ],
  replays: 0,
  redirects: 0,
});

/** A small linear generator; enough to tell ids apart. */
export const seededRandom = (seed: number): Random => {
  let state = (seed * 2_654_435_761 + 12_345) >>> 0;
  const next = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state;
  };
  return {
    float: () => next() / 2 ** 32,
    bytes: (target) => {
      for (let i = 0; i < target.length; i++) target[i] = next() >>> 24;
      return target;
    },
  };
};
