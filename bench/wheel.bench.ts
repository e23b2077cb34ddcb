// What the near window costs: the wheel alone and the near set around it, in ns per operation, bytes per operation, and
// milliseconds for which they stop the event loop. `node bench/wheel.bench.ts [--quick]`
//
// Two orders of handles. "as loaded": neighbours in memory are neighbours in time, as after the loader has filled a fresh set.
// "at random": nothing is near anything, every step misses the cache; a set that has been in use for long is between the two.

import os from "node:os";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { NearSet } from "../src/delay/near-set.ts";
import { TimingWheel } from "../src/delay/timing-wheel.ts";

const { values: options } = parseArgs({ options: { quick: { type: "boolean", default: false } } });
const rounds = options.quick ? 1 : 9;
const windowMsOf = (entries: number) => entries * 0.6; // 1,667 per second whatever the size: 600 s for a million
const originMs = 1_790_000_000_000;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

type Timings = Map<string, number[]>;

function time(timings: Timings, name: string, operations: number, run: () => void): void {
  const began = process.hrtime.bigint();
  run();
  const nsPerOperation = Number(process.hrtime.bigint() - began) / operations;
  timings.set(name, [...(timings.get(name) ?? []), nsPerOperation]);
}

const median = (numbers: readonly number[]) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1] as number;

function print(title: string, timings: Timings): void {
  console.log(`\n${title}`);
  console.log("  operation                        best ns  median ns   best M/s  median M/s");
  for (const [name, all] of timings) {
    const [best, middle] = [Math.min(...all), median(all)];
    const cells = [best.toFixed(1), middle.toFixed(1), (1000 / best).toFixed(1), (1000 / middle).toFixed(1)];
    console.log(`  ${name.padEnd(30)} ${cells.map((cell) => cell.padStart(10)).join(" ")}`);
  }
}

// A generator of our own, so that each run does the same work.
function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function shuffled(length: number, random: (below: number) => number): Int32Array {
  const order = Int32Array.from({ length }, (_, i) => i);
  for (let i = length - 1; i > 0; i--) {
    const j = random(i + 1);
    const kept = order[i] as number;
    order[i] = order[j] as number;
    order[j] = kept;
  }
  return order;
}

const inOrder = (length: number) => Int32Array.from({ length }, (_, i) => i);

function duesOf(entries: number, random: (below: number) => number): Float64Array {
  return Float64Array.from({ length: entries }, () => originMs + 1 + random(windowMsOf(entries))).sort();
}

function benchWheel(entries: number): void {
  const windowMs = windowMsOf(entries);
  for (const orderName of ["as loaded", "at random"]) {
    const random = randomFrom(entries);
    const order = orderName === "as loaded" ? inOrder(entries) : shuffled(entries, random);
    const cancelOrder = orderName === "as loaded" ? inOrder(entries) : shuffled(entries, random);
    const offsets = duesOf(entries, random);
    const dueOrder = orderName === "as loaded" ? inOrder(entries) : shuffled(entries, random);
    const wheel = new TimingWheel({ startMs: originMs, capacity: entries });
    const out = new Int32Array(1000);
    const timings: Timings = new Map();
    const dues = new Float64Array(entries);
    let baseMs = 0; // each round starts where the one before has ended: a wheel does not go back

    const fill = () => {
      for (let i = 0; i < entries; i++) wheel.insert(order[i] as number, dues[i] as number);
    };
    for (let round = 0; round < rounds + 1; round++) {
      if (round === 1) timings.clear(); // the first round warms the compiler and the pages
      for (let i = 0; i < entries; i++) dues[i] = (offsets[dueOrder[i] as number] as number) + baseMs;
      time(timings, "insert", entries, fill);
      time(timings, "cancel", entries, () => {
        for (let i = 0; i < entries; i++) wheel.cancel(cancelOrder[i] as number);
      });
      fill();
      time(timings, "expire, a step per ms", entries, () => {
        for (let ms = 0; ms <= windowMs; ms++) {
          while (wheel.advance(originMs + baseMs + ms, out, out.length) === out.length);
        }
      });
      if (wheel.size !== 0) throw new Error("the wheel should be empty");
      baseMs += windowMs;
      for (let i = 0; i < entries; i++) dues[i] = (dues[i] as number) + windowMs;
      fill();
      baseMs += windowMs;
      time(timings, "expire, all at once", entries, () => {
        while (wheel.size > 0) wheel.advance(originMs + baseMs, out, out.length);
      });
      time(timings, "insert late", entries, fill);
      time(timings, "expire late", entries, () => {
        while (wheel.size > 0) wheel.advance(originMs + baseMs, out, out.length);
      });
    }
    print(`wheel, ${entries} entries, ${orderName}`, timings);
  }
}

function idsOf(entries: number, random: (below: number) => number): Buffer {
  const ids = Buffer.allocUnsafe(entries * 16);
  for (let at = 0; at < ids.length; at += 4) ids.writeUInt32LE(random(2 ** 32), at);
  return ids;
}

function benchNearSet(entries: number): void {
  const windowMs = windowMsOf(entries);
  const random = randomFrom(entries);
  const ids = idsOf(entries, random);
  const order = shuffled(entries, random);
  const offsets = duesOf(entries, random);
  const dueOrder = shuffled(entries, random);
  const dues = new Float64Array(entries);
  const timings: Timings = new Map();
  const set = new NearSet({ startMs: originMs, entriesMax: entries });
  let baseMs = 0;
  let seen = 0;
  const fill = () => {
    for (let i = 0; i < entries; i++) set.put(ids, i * 16, i, i & 31, dues[i] as number);
  };
  const visit = (handle: number) => {
    seen += set.laneOf(handle) & 1;
    set.drop(handle);
  };
  for (let round = 0; round < rounds + 1; round++) {
    if (round === 1) timings.clear();
    for (let i = 0; i < entries; i++) dues[i] = (offsets[dueOrder[i] as number] as number) + baseMs;
    time(timings, "put, new", entries, fill);
    time(timings, "put, same", entries, () => {
      for (let i = 0; i < entries; i++)
        set.put(ids, (order[i] as number) * 16, 0, 0, dues[order[i] as number] as number);
    });
    time(timings, "put, moved", entries, () => {
      for (let i = 0; i < entries; i++)
        set.put(ids, (order[i] as number) * 16, 0, 0, (dues[order[i] as number] as number) + 1);
    });
    time(timings, "remove", entries, () => {
      for (let i = 0; i < entries; i++) set.remove(ids, (order[i] as number) * 16);
    });
    fill();
    time(timings, "expire, a step per ms", entries, () => {
      for (let ms = 0; ms <= windowMs; ms++) {
        while (take(set, originMs + baseMs + ms, 1000, visit) === 1000);
      }
    });
    if (set.size !== 0) throw new Error("the set should be empty");
    baseMs += windowMs;
  }
  print(`near set, ${entries} entries, ids and dues at random (${seen > 0 ? "visited" : ""})`, timings);
}

/** Bytes that stay on the JavaScript heap when nothing is collected meanwhile, over slices short enough for that. */
function bytesPerOperation(operation: (i: number) => void, operations: number): number {
  const slice = 10_000;
  let bytes = 0;
  for (let from = 0; from < operations; from += slice) {
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    for (let i = from; i < from + slice; i++) operation(i);
    bytes += process.memoryUsage().heapUsed - before;
  }
  return bytes / operations;
}

function benchAllocation(): void {
  const operations = 200_000;
  const warmUp = 400_000;
  const entries = operations + warmUp;
  const windowMs = windowMsOf(entries);
  const random = randomFrom(1);
  const wheel = new TimingWheel({ startMs: originMs, capacity: entries });
  const set = new NearSet({ startMs: originMs, entriesMax: entries });
  const ids = idsOf(entries, random);
  // A number beyond 31 bits that leaves a typed array becomes an object of 16 bytes when it is handed to a function that the engine
  // does not inline. That is the caller's doing; here the dues are objects from the start, as they are when they come from a reply.
  const dues = Array.from<number | string>(duesOf(entries, random)) as number[];
  (dues as (number | string)[]).push("keeps the engine from storing them flat");
  const visit = (handle: number) => set.drop(handle);
  const out = new Int32Array(1);
  const lastMs = originMs + windowMs;
  console.log("\nallocation on the JavaScript heap, bytes per operation (an empty loop shows the measurement's own)");
  const report = (name: string, operation: (i: number) => void) => {
    for (let i = 0; i < warmUp; i++) operation(operations + i);
    console.log(`  ${name.padEnd(30)} ${bytesPerOperation(operation, operations).toFixed(3).padStart(10)}`);
  };
  let sum = 0;
  report("empty loop", (i) => {
    sum += i & 1;
  });
  report("wheel insert", (i) => wheel.insert(i, dues[i] as number));
  report("wheel move", (i) => wheel.move(i, dues[entries - 1 - i] as number));
  report("wheel cancel", (i) => wheel.cancel(i));
  for (let i = 0; i < entries; i++) wheel.insert(i, dues[i] as number);
  report("wheel expire", () => wheel.advance(lastMs, out, 1));
  report("near set put, new", (i) => set.put(ids, i * 16, i, i & 31, dues[i] as number));
  report("near set put, moved", (i) => set.put(ids, i * 16, i, i & 31, dues[entries - 1 - i] as number));
  report("near set remove", (i) => set.remove(ids, i * 16));
  for (let i = 0; i < entries; i++) set.put(ids, i * 16, i, i & 31, dues[i] as number);
  report("near set take and drop", () => take(set, lastMs, 1, visit));
  if (sum < 0) throw new Error("cannot happen; keeps the empty loop from being removed");
}

/** Takes up to `max` due entries; `then` drops or requeues each. Says how many. */
function take(set: NearSet, nowMs: number, max: number, then: (handle: number) => void): number {
  for (let taken = 0; taken < max; taken++) {
    const handle = set.takeDue(nowMs);
    if (handle < 0) return taken;
    then(handle);
  }
  return max;
}

const settled = () => new Promise<void>((resolve) => setTimeout(resolve, 10));
const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Runs short pieces of work, a turn of the event loop each, and prints the longest piece and the longest delay of the loop. */
async function pauses(name: string, work: Iterable<void>): Promise<void> {
  collectGarbage();
  await nextTurn();
  const loopDelay = monitorEventLoopDelay({ resolution: 1 });
  loopDelay.enable();
  await settled(); // a delay is seen only between two samples
  const pieceMs: number[] = [];
  const iterator = work[Symbol.iterator]();
  for (;;) {
    const began = process.hrtime.bigint();
    const { done } = iterator.next();
    pieceMs.push(Number(process.hrtime.bigint() - began) / 1e6);
    await nextTurn();
    if (done) break;
  }
  await settled();
  loopDelay.disable();
  const longest = Math.max(...pieceMs).toFixed(1);
  const delay = (loopDelay.max / 1e6).toFixed(1);
  console.log(
    `  ${name.padEnd(62)} ${longest.padStart(8)} ${delay.padStart(12)} ${String(pieceMs.length).padStart(8)}`,
  );
}

async function benchPauses(): Promise<void> {
  const entries = 1_000_000;
  const batch = 1000;
  const windowMs = 600_000;
  const random = randomFrom(7);
  const ids = idsOf(entries, random);
  // Every due lies behind an edge of the third digit, so that all must come down together when the clock reaches it.
  const edgeMs = Math.ceil(originMs / 2 ** 24) * 2 ** 24;
  const dues = Float64Array.from({ length: entries }, () => edgeMs + random(windowMs));
  const set = new NearSet({ startMs: edgeMs - 1000, entriesMax: entries });
  const put = (i: number, dueMs: number) => set.put(ids, i * 16, i, i & 31, dueMs);

  console.log("\npauses with up to 1,000,000 entries        (work in batches of 1,000, a turn of the event loop each)");
  console.log(`  ${"".padEnd(62)} piece ms  loop delay ms   pieces`);
  await pauses(
    "filling from empty",
    (function* () {
      for (let i = 0; i < entries; i++) {
        put(i, dues[i] as number);
        if (i % batch === batch - 1) yield;
      }
    })(),
  );
  if (set.size !== entries) throw new Error(`${set.size} entries are in, not ${entries}`);
  // Out and in again, so that handles are handed out in an order that has nothing to do with time, as after days of use.
  for (const i of shuffled(entries, random)) set.remove(ids, i * 16);
  for (let i = 0; i < entries; i++) put(i, dues[i] as number);
  await pauses(
    "the clock reaches the edge: all move to a lower level",
    (function* () {
      for (let ms = -1; ms < 500; ms++) {
        let first = set.nextDueMs();
        do {
          take(set, edgeMs + ms, batch, (handle) => set.requeue(handle, set.dueOf(handle) + windowMs));
          first = set.nextDueMs();
          yield;
        } while (first <= edgeMs + ms);
      }
    })(),
  );
  await pauses(
    "holding a million: 10 min in 250 ms steps, each expired is put back",
    (function* () {
      for (let ms = 500; ms < windowMs; ms += 250) {
        do {
          take(set, edgeMs + ms, batch, (handle) => set.requeue(handle, set.dueOf(handle) + windowMs));
          yield;
        } while (set.nextDueMs() <= edgeMs + ms);
      }
    })(),
  );
  if (set.size !== entries) throw new Error(`${set.size} entries are in, not ${entries}`);
  await pauses(
    "losing one shard of 32",
    (function* () {
      set.removeShard(5);
      yield;
    })(),
  );
  for (let i = 0; i < entries; i++) set.put(ids, i * 16, i, 1, dues[i] as number);
  await pauses(
    "losing the only shard, 1,000,000 entries (no other one is left)",
    (function* () {
      set.removeShard(1);
      yield;
    })(),
  );
}

console.log(
  `node ${process.version}, ${os.cpus()[0]?.model}, ${os.cpus().length} CPUs, load ${os.loadavg()[0]?.toFixed(1)}, ${rounds} rounds`,
);
benchAllocation();
for (const entries of options.quick ? [100_000] : [100_000, 1_000_000]) {
  benchWheel(entries);
  benchNearSet(entries);
}
if (!options.quick) await benchPauses();
