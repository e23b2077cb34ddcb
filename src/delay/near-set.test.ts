import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mixId, NearSet } from "./near-set.ts";

const startMs = 1_790_000_000_000;

/** A different id for each number, each byte different from its neighbours. */
function idOf(n: number): Buffer {
  const id = Buffer.alloc(16);
  id.writeUInt32BE(Math.imul(n + 1, 0x01000193) >>> 0, 0);
  id.writeUInt32BE(n, 4);
  id.writeUInt32LE(Math.imul(n, 0x85ebca6b) >>> 0, 8);
  id.writeUInt32BE(0xfffefdfc, 12);
  return id;
}

interface Entry {
  taken: boolean;
  lane: number;
  shard: number;
  dueMs: number;
  order: number;
}

/** What the near set must be equal to: a Map, searched from end to end. */
class MapModel {
  readonly entries = new Map<string, Entry>();
  readonly #entriesMax: number;
  #order = 0;

  constructor(entriesMax: number) {
    this.#entriesMax = entriesMax;
  }
  put(id: Buffer, lane: number, shard: number, dueMs: number): "added" | "moved" | "same" | "taken" | "full" {
    const present = this.entries.get(id.toString("hex"));
    if (present === undefined) {
      if (this.entries.size >= this.#entriesMax) return "full";
      this.entries.set(id.toString("hex"), { taken: false, lane, shard, dueMs, order: this.#order++ });
      return "added";
    }
    if (present.taken) return "taken";
    const answer = present.dueMs === dueMs ? "same" : "moved";
    Object.assign(present, { lane, shard, dueMs, order: answer === "same" ? present.order : this.#order++ });
    return answer;
  }
  remove(id: Buffer): boolean {
    if (this.entries.get(id.toString("hex"))?.taken) return false;
    return this.entries.delete(id.toString("hex"));
  }
  requeue(id: string, dueMs: number): void {
    Object.assign(this.entries.get(id) as Entry, { taken: false, dueMs, order: this.#order++ });
  }
  get waiting(): number {
    return [...this.entries.values()].filter(({ taken }) => !taken).length;
  }
  removeShard(shard: number): number {
    let removed = 0;
    for (const [id, entry] of this.entries)
      if (entry.shard === shard && !entry.taken && this.entries.delete(id)) removed++;
    return removed;
  }
  first(): ({ readonly id: string } & Entry) | undefined {
    let first: [string, Entry] | undefined;
    for (const candidate of this.entries) {
      const [, a] = candidate;
      const b = first?.[1];
      if (a.taken) continue;
      if (b === undefined || a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order)) first = candidate;
    }
    return first === undefined ? undefined : { id: first[0], ...first[1] };
  }
}

function read(set: NearSet, handle: number) {
  const bytes = Buffer.alloc(20, 0xee);
  set.idInto(handle, bytes, 3);
  expect([bytes[2], bytes[19]]).toEqual([0xee, 0xee]);
  return {
    id: bytes.toString("hex", 3, 19),
    lane: set.laneOf(handle),
    shard: set.shardOf(handle),
    dueMs: set.dueOf(handle),
  };
}

/** Takes all that is due, looks at it and drops it. */
function expireAll(set: NearSet, nowMs: number, visit: (handle: number) => void): number {
  let expired = 0;
  for (let handle = set.takeDue(nowMs); handle >= 0; handle = set.takeDue(nowMs)) {
    visit(handle);
    set.drop(handle);
    expired++;
  }
  return expired;
}

const idsInTests = 12;
const which = fc.integer({ min: 0, max: idsInTests - 1 });
const shard = fc.constantFrom(0, 1, 65_535);
const lane = fc.constantFrom(0, 7, 2 ** 31, 2 ** 32 - 1);
const dueInMs = fc.oneof(fc.integer({ min: -3, max: 3 }), fc.integer({ min: -1000, max: 100_000 }));
type Step =
  | { do: "put"; which: number; lane: number; shard: number; dueInMs: number }
  | { do: "remove"; which: number };
const put: fc.Arbitrary<Step> = fc.record({ do: fc.constant("put" as const), which, lane, shard, dueInMs });
const remove: fc.Arbitrary<Step> = fc.record({ do: fc.constant("remove" as const), which });
const steps = fc.oneof(
  { weight: 8, arbitrary: put },
  { weight: 3, arbitrary: remove },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("removeShard" as const), shard }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("take" as const),
      byMs: fc.oneof(fc.integer({ min: 0, max: 5 }), fc.integer({ min: -500, max: 80_000 })),
      max: fc.constantFrom(1, 2, 50),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom("drop" as const, "requeue" as const),
      which: fc.nat(),
      dueInMs,
    }),
  },
);

// -1 is the hash as it is; the others make all ids, or clusters of them, collide.
const hashMasks = fc.constantFrom(-1, 0, 3, -2048);

describe("against a Map", () => {
  test("whatever is put, moved, removed, taken, dropped and put back in whatever order", () => {
    fc.assert(
      fc.property(
        hashMasks,
        fc.integer(),
        fc.integer({ min: 1, max: idsInTests + 1 }),
        fc.array(steps, { minLength: 5, maxLength: 80 }),
        (hashMask, hashSeed, entriesMax, life) => {
          const set = new NearSet({ startMs, entriesMax, hashMask, hashSeed });
          const model = new MapModel(entriesMax);
          let nowMs = startMs;
          const out: { handle: number; expected: ReturnType<typeof read> }[] = [];
          const padded = Buffer.alloc(16 * idsInTests + 5);
          for (let n = 0; n < idsInTests; n++) idOf(n).copy(padded, 5 + n * 16);

          const apply = (step: Step) => {
            const at = 5 + step.which * 16;
            if (step.do === "remove") return expect(set.remove(padded, at)).toBe(model.remove(idOf(step.which)));
            const dueMs = nowMs + step.dueInMs;
            expect(set.put(padded, at, step.lane, step.shard, dueMs)).toBe(
              model.put(idOf(step.which), step.lane, step.shard, dueMs),
            );
          };
          for (const step of life) {
            if (step.do === "put" || step.do === "remove") {
              apply(step);
            } else if (step.do === "removeShard") {
              expect(set.removeShard(step.shard)).toBe(model.removeShard(step.shard));
            } else if (step.do === "take") {
              nowMs += step.byMs;
              for (let i = 0; i < step.max; i++) {
                const first = model.first();
                const handle = set.takeDue(nowMs);
                if (first === undefined || first.dueMs > nowMs) {
                  expect(handle).toBe(-1);
                  break;
                }
                const { order: _, taken: __, ...expected } = first;
                expect(read(set, handle)).toEqual(expected);
                (model.entries.get(first.id) as Entry).taken = true;
                out.push({ handle, expected });
              }
            } else if (out.length > 0) {
              const [{ handle, expected }] = out.splice(step.which % out.length, 1) as [(typeof out)[number]];
              expect(read(set, handle)).toEqual(expected); // still readable, whatever was put meanwhile
              if (step.do === "drop") {
                set.drop(handle);
                model.entries.delete(expected.id);
              } else {
                set.requeue(handle, nowMs + step.dueInMs);
                model.requeue(expected.id, nowMs + step.dueInMs);
              }
              expect(() => set.drop(handle)).toThrow("not taken");
            }
            expect(set.waiting).toBe(model.waiting);
            expect(set.size).toBe(model.entries.size);
            expect(set.nextDueMs()).toBeLessThanOrEqual(model.first()?.dueMs ?? Infinity);
            expect(set.nextDueMs() === Infinity).toBe(model.waiting === 0);
          }
          for (const { handle, expected } of out) {
            set.drop(handle);
            model.entries.delete(expected.id);
          }
          // Nothing may have stayed behind in the table either.
          for (let n = 0; n < idsInTests; n++) expect(set.remove(padded, 5 + n * 16)).toBe(model.remove(idOf(n)));
          expect(set.size).toBe(0);
        },
      ),
      { numRuns: 600 },
    );
  });

  // 1,500 of 2,048 places: runs of neighbours that wrap around the table's end. 0x7f8 leaves 256 homes for them.
  test.each([-1, 0x7f8, 0x600])("a crowded table, hash & %i: random comings and goings", (hashMask) => {
    fc.assert(
      fc.property(fc.infiniteStream(fc.nat(2999)), (choices) => {
        const set = new NearSet({ startMs, entriesMax: 1500, hashMask });
        const present = new Set<number>();
        const ids = Array.from({ length: 3000 }, (_, n) => idOf(n));
        for (let i = 0; i < 8000; i++) {
          const n = choices.next().value as number;
          const id = ids[n] as Buffer;
          if (present.has(n)) {
            if (set.put(id, 0, 0, 0, startMs + n) !== "same") expect.fail(`id ${n} was lost`);
            if (i % 3 !== 0) continue;
            if (!set.remove(id, 0)) expect.fail(`id ${n} was lost`);
            present.delete(n);
          } else {
            const answer = set.put(id, 0, 0, 0, startMs + n);
            if (answer !== (present.size < 1500 ? "added" : "full")) expect.fail(`id ${n}: ${answer}`);
            if (answer === "added") present.add(n);
          }
        }
        expect(set.size).toBe(present.size);
        for (let n = 0; n < 3000; n++) {
          if (set.remove(ids[n] as Buffer, 0) !== present.has(n)) expect.fail(`id ${n} differs`);
        }
      }),
      { numRuns: 2 },
    );
  });
});

describe("the near set", () => {
  test("keeps everything and its order until it is full", () => {
    const set = new NearSet({ startMs, entriesMax: 50_000 });
    for (let n = 0; n < 50_000; n++) {
      expect(set.put(idOf(n), 0, n, n % 32, startMs + (n % 7))).toBe("added");
    }
    expect(set.put(idOf(50_000), 0, 0, 0, startMs)).toBe("full");
    expect(set.put(idOf(49_999), 0, 49_999, 49_999 % 32, startMs + (49_999 % 7))).toBe("same");
    const lanes: number[] = [];
    expireAll(set, startMs + 6, (handle) => {
      const n = set.laneOf(handle);
      lanes.push(n);
      if (read(set, handle).id !== idOf(n).toString("hex")) expect.fail(`entry ${n} has another id`);
    });
    const inOrder = Array.from({ length: 50_000 }, (_, n) => n).sort((a, b) => (a % 7) - (b % 7) || a - b);
    expect(lanes).toEqual(inOrder);
  });

  test("uses its room again, however many come and go", () => {
    const set = new NearSet({ startMs, entriesMax: 2 });
    for (let n = 0; n < 10_000; n++) {
      expect(set.put(idOf(n), 0, 0, 0, startMs + n)).toBe("added");
      if (n % 2 === 0) set.remove(idOf(n), 0);
      else expect(expireAll(set, startMs + n, (handle) => expect(handle).toBeLessThan(2))).toBe(1);
    }
    expect(set.size).toBe(0);
  });

  test("what is taken keeps its room and its place: a second reading of the store cannot bring it in twice", () => {
    const set = new NearSet({ startMs, entriesMax: 2 });
    set.put(idOf(1), 0, 1, 0, startMs + 1);
    set.put(idOf(2), 0, 2, 0, startMs + 2);
    const handle = set.takeDue(startMs + 1);
    expect([set.size, set.waiting]).toEqual([2, 1]);
    expect(set.put(idOf(1), 0, 9, 9, startMs + 100)).toBe("taken");
    expect(read(set, handle)).toMatchObject({ lane: 1, shard: 0, dueMs: startMs + 1 });
    expect(set.remove(idOf(1), 0)).toBe(false);
    expect(set.removeShard(0)).toBe(1);
    expect(set.put(idOf(3), 0, 3, 0, startMs)).toBe("added");
    expect(set.put(idOf(4), 0, 4, 0, startMs)).toBe("full");
    set.drop(handle);
    expect(set.put(idOf(1), 0, 1, 0, startMs)).toBe("added");
  });

  test("ids that differ in a single bit are different, even where all hashes are equal", () => {
    const set = new NearSet({ startMs, hashMask: 0 });
    const ids = Array.from({ length: 129 }, (_, bit) => {
      const id = idOf(7);
      if (bit < 128) id[bit >>> 3] = (id[bit >>> 3] as number) ^ (1 << (bit & 7));
      return id;
    });
    for (const id of ids) expect(set.put(id, 0, 0, 0, startMs)).toBe("added");
    for (const id of ids) expect(set.put(id, 0, 0, 0, startMs)).toBe("same");
    for (const [left, id] of ids.entries()) {
      expect(set.remove(id, 0)).toBe(true);
      expect(set.size).toBe(128 - left);
    }
  });

  test("refuses to drop or requeue what is not taken", () => {
    const set = new NearSet({ startMs });
    set.put(idOf(1), 0, 0, 0, startMs);
    for (const handle of [-1, 0, 1, 5000, 0.5, NaN]) {
      expect(() => set.drop(handle)).toThrow("not taken");
      expect(() => set.requeue(handle, startMs)).toThrow("not taken");
    }
    expect(set.takeDue(startMs)).toBe(0);
    expect(() => set.requeue(0, NaN)).toThrow(RangeError);
    set.requeue(0, startMs + 1);
    expect([set.size, set.waiting, set.nextDueMs()]).toEqual([1, 1, startMs + 1]);
  });

  test("forgets one shard and nothing else", () => {
    const set = new NearSet({ startMs });
    for (let n = 0; n < 5000; n++) set.put(idOf(n), 0, n, n % 5, startMs + n);
    expect(set.removeShard(3)).toBe(1000);
    expect(set.removeShard(3)).toBe(0);
    expect(set.removeShard(60_000)).toBe(0);
    const shards = new Set<number>();
    expect(expireAll(set, startMs + 5000, (handle) => shards.add(set.shardOf(handle)))).toBe(4000);
    expect([...shards].sort()).toEqual([0, 1, 2, 4]);
  });

  test("refuses what does not fit its fields, and changes nothing by it", () => {
    const set = new NearSet({ startMs });
    expect(() => set.put(idOf(1), 0, 0, 0, NaN)).toThrow(RangeError);
    expect(() => set.put(idOf(1), 0, 0, 0, startMs + 0.5)).toThrow(RangeError);
    expect(() => set.put(idOf(1), 0, 0, 65_536, startMs)).toThrow(RangeError);
    expect(() => set.put(idOf(1), 0, 0, -1, startMs)).toThrow(RangeError);
    expect(() => set.put(idOf(1), 0, 2 ** 32, 0, startMs)).toThrow(RangeError);
    expect(() => set.put(idOf(1), 0, -1, 0, startMs)).toThrow(RangeError);
    expect(() => set.put(idOf(1), 1, 0, 0, startMs)).toThrow(RangeError);
    expect(() => set.remove(idOf(1), 1)).toThrow(RangeError);
    expect(() => new NearSet({ startMs, entriesMax: 0 })).toThrow(RangeError);
    expect(() => new NearSet({ startMs: NaN })).toThrow(RangeError);
    expect(set.size).toBe(0);
    expect(set.nextDueMs()).toBe(Infinity);
  });
});

describe("the hash", () => {
  const crowd = 65_536;
  const homes = 65_536;
  // Thrown at random, e^-1 of the homes stay empty and the fullest holds 8 or 9.
  const crowdsOfIds: [string, (n: number) => [number, number, number, number]][] = [
    ["only the first word differs", (n) => [n, 1, 2, 3]],
    ["only the second word differs", (n) => [1, n, 2, 3]],
    ["only the third word differs", (n) => [1, 2, n, 3]],
    ["only the last word differs", (n) => [1, 2, 3, n]],
    ["differs in high bits only", (n) => [n << 16, 1, 2, 3]],
    ["differs in high bits of the last word", (n) => [1, 2, 3, n << 16]],
    ["two words differ by the same", (n) => [1, n, n, 3]],
    ["two words differ oppositely", (n) => [1, n, -n, 3]],
    ["times of one second, one shard, counter", (n) => [0x01a2b3c4, n << 20, n >>> 12, 0x1f00]],
  ];
  test.each(crowdsOfIds)("spreads ids where %s", (_, wordsOf) => {
    const counts = new Int32Array(homes);
    for (let n = 0; n < crowd; n++) {
      const [w0, w1, w2, w3] = wordsOf(n);
      const home = mixId(w0, w1, w2, w3, 0) & (homes - 1);
      counts[home] = (counts[home] as number) + 1;
    }
    expect(counts.filter((count) => count === 0).length / homes).toBeLessThan(0.39);
    expect(Math.max(...counts)).toBeLessThan(14);
  });

  test("depends on the seed", () => {
    const same = Array.from({ length: 1000 }, (_, n) => n).filter(
      (n) => (mixId(n, n, n, n, 1) & 1023) === (mixId(n, n, n, n, 2) & 1023),
    );
    expect(same.length).toBeLessThan(10);
  });
});
