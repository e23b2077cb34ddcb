import { MemoryDelayStore } from "../../src/adapters/memory/memory-delay-store.ts";
import { MemoryDocumentStore } from "../../src/adapters/memory/memory-document-store.ts";
import { BayBook } from "../../src/dependencies/bay-book.ts";
import { DependencyBoard } from "../../src/dependencies/board.ts";
import { Releaser } from "../../src/dependencies/releaser.ts";
import { idFromBytes, type MessageId, nameBasedId, shardOf } from "../../src/message/id.ts";
import { type DurationMs, durationMs, epochMs, second } from "../../src/message/time.ts";
import { decide } from "../../src/retry/decide.ts";
import { type CallKind, DependencyGuard } from "../../src/retry/dependency-guard.ts";
import type { RetryPolicy } from "../../src/retry/policy.ts";
import { silentLog } from "../../src/runtime/log.ts";
import { Prng } from "./prng.ts";

/**
 * The engine's row of the outage model: the same outage, lived through by the real guard in each of several consumer
 * processes, the real board in each of two service processes with one store of documents between them, and the real
 * releaser on the memory store. Only the messages' way between them is the model's: a tick.
 *
 * Unlike the other rows its consumers know of the outage, so a message that comes while the breaker is open is parked
 * without a call.
 */
export type EngineOutage = {
  readonly messages: number;
  /** Whether a call at this time finds the dependency there; time 0 is when all messages come, within two seconds. */
  readonly isUp: (nowMs: number) => boolean;
  readonly capacityPerSecond: number;
  readonly fleetPerSecond: number;
  readonly workers: number;
  readonly seed: number;
  readonly untilMs: number;
};

export type EngineCourse = {
  readonly calls: number;
  readonly succeeded: number;
  readonly dead: number;
  readonly failed16Times: number;
  readonly parkings: number;
  readonly deferrals: number;
  /** Calls and successes in each second from time 0. */
  readonly callsBySecond: readonly number[];
  readonly succeededBySecond: readonly number[];
  /** When each message was through; Infinity when it never was. */
  readonly doneAtMs: Float64Array;
  readonly states: readonly { readonly atMs: number; readonly state: string }[];
};

const tickMs = 100;
const key = "acct:1";
const services = ["service-a", "service-b"];
/** Of a healthy dependency, before everything fails: the breakers' windows are full of successes. */
const healthy = { forMs: 10 * second, callsPerSecond: 1_000 };
/** A retry beyond the budget comes again so much later. */
const deferMs = { min: 2_000, max: 6_000 };
const startMs = Date.UTC(2027, 0, 1);

export const liveThroughWithEngine = async (policy: RetryPolicy, outage: EngineOutage): Promise<EngineCourse> => {
  const random = new Prng(outage.seed);
  let nowMs = startMs - healthy.forMs;
  const clock = { nowMs: () => epochMs(nowMs), monotonicMs: () => nowMs - startMs + 3_600_000, trusted: true };
  const store = new MemoryDelayStore({ clockMs: () => nowMs });
  const documents = new MemoryDocumentStore();
  const released: { readonly id: MessageId; readonly dueMs: number }[] = [];
  const processes = services.map((node, i) => {
    const board = new DependencyBoard({ documents, clock, log: silentLog, node, members: () => services });
    const releaser = new Releaser({
      store,
      clock,
      board,
      bays: new BayBook(documents),
      owned: () => Array.from({ length: store.shardCount }, (_, shard) => shard).filter((shard) => shard % 2 === i),
      offer: (id, offset, _lane, _shard, dueMs) => released.push({ id: idFromBytes(id, offset), dueMs }) > 0,
      log: silentLog,
    });
    return { board, releaser, releaseAtMs: 0 };
  });
  const bays = new BayBook(documents);
  const workers = Array.from({ length: outage.workers }, (_, i) => ({
    name: `worker-${i}`,
    guard: new DependencyGuard(),
    board: processes[i % processes.length]!.board,
    // As in life, they do not all sync in the same instant.
    syncAt: Math.floor((i * 10) / outage.workers),
  }));

  const { messages } = outage;
  const attempts = new Uint16Array(messages);
  const hops = new Uint16Array(messages);
  const firstFailedAtMs = new Float64Array(messages);
  const previousDelayMs = new Float64Array(messages);
  const parkedMs = new Float64Array(messages);
  const parkedAtMs = new Float64Array(messages);
  const doneAtMs = new Float64Array(messages).fill(Number.POSITIVE_INFINITY);
  const parked = new Map<MessageId, number>();
  const parking: { readonly message: number; readonly id: MessageId }[] = [];
  const dueByTick = new Map<number, { message: number; kind: CallKind }[]>();
  const course = { calls: 0, succeeded: 0, dead: 0, failed16Times: 0, parkings: 0, deferrals: 0 };
  const [callsBySecond, succeededBySecond]: [number[], number[]] = [[], []];
  const states: { atMs: number; state: string }[] = [];

  const later = (message: number, kind: CallKind, waitMs: number): void => {
    const tick = Math.max(Math.ceil((nowMs + waitMs - startMs) / tickMs), Math.floor((nowMs - startMs) / tickMs) + 1);
    const due = dueByTick.get(tick);
    if (due === undefined) dueByTick.set(tick, [{ message, kind }]);
    else due.push({ message, kind });
  };

  const fails = (message: number): void => {
    const attempt = ++attempts[message]!;
    if (attempt === 1) firstFailedAtMs[message] = nowMs;
    if (attempt === 16) course.failed16Times++;
    const facts = {
      attempt,
      crashes: 0,
      firstFailedAtMs: epochMs(firstFailedAtMs[message]!),
      parkedMs: durationMs(parkedMs[message]!),
      nowMs: epochMs(nowMs),
      ...(attempt === 1 ? undefined : { previousDelayMs: previousDelayMs[message] as DurationMs }),
      failure: { class: "transient", code: "unreachable" },
    } as const;
    const decision = decide(policy, facts, random);
    if (decision.kind !== "retry") {
      course.dead++;
      return;
    }
    previousDelayMs[message] = decision.atMs - nowMs;
    later(message, "retry", decision.atMs - nowMs);
  };

  /** One message in the hands of one worker. Answers whether a call was made. */
  const handle = (message: number, kind: CallKind, room: number): boolean => {
    const { guard } = workers[Math.floor(random.float() * workers.length)]!;
    const verdict = guard.decide(key, kind, nowMs);
    if (verdict === "park") {
      course.parkings++;
      parkedAtMs[message] = nowMs;
      parking.push({ message, id: nameBasedId(["sim", String(message), String(hops[message]!++)]) });
      return false;
    }
    if (verdict === "defer") {
      course.deferrals++;
      later(message, kind, deferMs.min + random.float() * (deferMs.max - deferMs.min));
      return false;
    }
    course.calls++;
    const second = Math.floor((nowMs - startMs) / 1_000);
    callsBySecond[second] = (callsBySecond[second] ?? 0) + 1;
    const ok = outage.isUp(nowMs - startMs) && room > 0;
    guard.record(key, ok, nowMs);
    if (!ok) fails(message);
    else {
      course.succeeded++;
      doneAtMs[message] = nowMs - startMs;
      succeededBySecond[second] = (succeededBySecond[second] ?? 0) + 1;
    }
    return true;
  };

  const syncAll = async (tick: number): Promise<void> => {
    for (const { name, guard, board, syncAt } of workers) {
      if (((tick % 10) + 10) % 10 === syncAt) guard.apply(board.sync(name, guard.takeReports()), nowMs);
    }
    if (tick % 5 === 0) for (const { board } of processes) await board.runOnce();
    const state = processes[0]!.board.phase(key);
    if (states.at(-1)?.state !== state) states.push({ atMs: nowMs - startMs, state });
  };

  /** What was parked in this tick comes into the store, and what was let out of it comes to the workers. */
  const moveParked = async (): Promise<void> => {
    const byShard = Map.groupBy(parking.splice(0), ({ id }) => shardOf(id, store.shardCount));
    const deliverAtMs = await bays.placeFor(key, epochMs(nowMs));
    for (const [shard, entries] of byShard) {
      for (let i = 0; i < entries.length; i += 200) {
        const items = entries.slice(i, i + 200).map(({ message, id }) => {
          parked.set(id, message);
          return { message: { ...template, id, deliverAtMs, acceptedAtMs: epochMs(nowMs) } };
        });
        await store.schedule(shard, items);
      }
    }
    for (const process of processes) {
      if (nowMs < process.releaseAtMs) continue;
      process.releaseAtMs = nowMs + (await process.releaser.runOnce(never));
    }
    for (const { id, dueMs } of released.splice(0)) {
      const message = parked.get(id);
      if (message === undefined) continue;
      parked.delete(id);
      await store.cancel(shardOf(id, store.shardCount), [id], epochMs(nowMs));
      parkedMs[message]! += nowMs - parkedAtMs[message]!;
      later(message, "released", dueMs - nowMs + tickMs);
    }
  };

  const template = {
    tenant: "default",
    topic: "ESC_RETRY_sim",
    keys: [],
    properties: new Map<string, string>(),
    body: Buffer.from("x"),
    attempt: 0,
  };
  for (let tick = -healthy.forMs / tickMs; tick < 0; tick++) {
    nowMs = startMs + tick * tickMs;
    for (let i = 0; i < (healthy.callsPerSecond * tickMs) / 1_000; i++) {
      const { guard } = workers[i % workers.length]!;
      if (guard.decide(key, "fresh", nowMs) === "go") guard.record(key, true, nowMs);
    }
    await syncAll(tick);
  }
  // All that would be called within two seconds is called or parked then; the fleet's limit holds for what follows.
  const arrivalTicks = (2 * second) / tickMs;
  const [fleet, capacity] = [outage.fleetPerSecond, outage.capacityPerSecond].map((n) =>
    Math.round((n * tickMs) / 1_000),
  );
  let line: { message: number; kind: CallKind }[] = [];
  let arrived = 0;
  for (let tick = 0; tick * tickMs < outage.untilMs && course.succeeded + course.dead < messages; tick++) {
    nowMs = startMs + tick * tickMs;
    let room = capacity!;
    const use = (message: number, kind: CallKind): boolean => {
      const called = handle(message, kind, room);
      if (called) room--;
      return called;
    };
    for (const until = Math.floor((messages * (tick + 1)) / arrivalTicks); arrived < Math.min(until, messages); ) {
      use(arrived++, "fresh");
    }
    line = line.concat(dueByTick.get(tick) ?? []);
    dueByTick.delete(tick);
    let calls = 0;
    let taken = 0;
    for (; taken < line.length && calls < fleet!; taken++) {
      const { message, kind } = line[taken]!;
      if (use(message, kind)) calls++;
    }
    line = line.slice(taken);
    await syncAll(tick);
    await moveParked();
  }
  return { ...course, callsBySecond, succeededBySecond, doneAtMs, states };
};

const never = new AbortController().signal;
