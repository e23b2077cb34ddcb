import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  groupTail,
  idBytes,
  idFromBytes,
  idIntoBytes,
  idOfKey,
  idToBytes,
  laneOf,
  nameBasedId,
  parseMessageId,
  shardOf,
  timeOrderedId,
} from "./id.ts";
import { IdList } from "./id-list.ts";

const raw = fc.uint8Array({ minLength: idBytes, maxLength: idBytes }).map((bytes) => Buffer.from(bytes));
const tails = fc.nat({ max: 0xffff });
const versionOf = (id: string) => id[14];
const variantOf = (id: string) => Number.parseInt(id[19]!, 16) >>> 2;

describe("ids as text and as bytes", () => {
  it("any 16 bytes become text and the same bytes again, at any offset", () => {
    fc.assert(
      fc.property(raw, fc.nat({ max: 40 }), (bytes, offset) => {
        const id = idFromBytes(bytes);
        expect(parseMessageId(id)).toBe(id);
        expect(idToBytes(id)).toEqual(bytes);
        const target = Buffer.alloc(offset + idBytes + 3, 0xaa);
        idIntoBytes(id, target, offset);
        expect(idFromBytes(target, offset)).toBe(id);
        expect(target.subarray(0, offset).every((byte) => byte === 0xaa)).toBe(true);
        expect(target.subarray(offset + idBytes)).toEqual(Buffer.alloc(3, 0xaa));
      }),
    );
  });

  it("a UUID in any case is the same id; anything else is none", () => {
    const id = "70f4de44-6e39-5e95-8998-344a91fe42b1";
    expect(parseMessageId(id.toUpperCase())).toBe(id);
    const wrong = [
      "",
      "order-1",
      id.replaceAll("-", ""),
      `{${id}}`,
      `${id}\n`,
      ` ${id}`,
      `${id}0`,
      id.slice(1),
      id.replace("7", "g"),
      id.replace("7", "\uff17"),
      "70f4de446-e39-5e95-8998-344a91fe42b1",
    ];
    for (const text of wrong) expect(parseMessageId(text), JSON.stringify(text)).toBeUndefined();
  });

  it("a list keeps ids in order, and takes only its own part of a larger buffer", () => {
    fc.assert(
      fc.property(fc.array(raw, { maxLength: 20 }), (all) => {
        const ids = all.map((bytes) => idFromBytes(bytes));
        const list = IdList.of(ids);
        expect(list.length).toBe(ids.length);
        expect(list.toArray()).toEqual(ids);
        expect(list.bytes).toEqual(Buffer.concat(all));
        const part = new IdList(Buffer.concat([...all, Buffer.alloc(64)]), ids.length);
        expect(part.toArray()).toEqual(ids);
        expect(part.bytes.length).toBe(ids.length * idBytes);
      }),
    );
  });
});

describe("ids without a key", () => {
  const random = fc.uint8Array({ minLength: 10, maxLength: 10 });

  it("are UUIDv7 with the time in front and the tail that was chosen", () => {
    fc.assert(
      fc.property(fc.nat({ max: 2 ** 48 - 1 }), random, tails, (nowMs, bytes, tail) => {
        const id = timeOrderedId(nowMs, bytes, tail);
        expect(parseMessageId(id)).toBe(id);
        expect([versionOf(id), variantOf(id)]).toEqual(["7", 0b10]);
        const packed = idToBytes(id);
        expect(packed.readUIntBE(0, 6)).toBe(nowMs);
        expect(packed.readUInt16BE(14)).toBe(tail);
      }),
    );
  });

  it("sort by time", () => {
    const bytes = new Uint8Array(10);
    const ids = [0, 1, 255, 256, 1_799_999_999_999, 1_800_000_000_000].map((nowMs) => timeOrderedId(nowMs, bytes, 7));
    expect([...ids].sort()).toEqual(ids);
  });

  it("keep 58 of the random bits: each byte of chance changes the id", () => {
    const base = timeOrderedId(1, new Uint8Array(10), 0);
    for (let i = 0; i < 8; i++) {
      const chance = new Uint8Array(10);
      chance[i] = 0x0f;
      expect(timeOrderedId(1, chance, 0), `byte ${i}`).not.toBe(base);
    }
    const chance = new Uint8Array(10).fill(0xff);
    expect(timeOrderedId(0, chance, 0)).toBe("00000000-0000-7fff-bfff-ffffffff0000");
    expect([...chance]).toEqual(new Array(10).fill(0xff));
  });
});

describe("ids of keys", () => {
  // Worked out by a second implementation. They may never change: stored messages are found by them.
  it("P5: are the same for ever", () => {
    expect(idOfKey("default", "order-1")).toBe("70f4de44-6e39-5e95-8998-344a91fe42b1");
    expect(idOfKey("default", "order-1", "grüße")).toBe("3346901d-8abc-5740-8961-b04a3cf90e2a");
    expect(groupTail("default", "grüße")).toBe(3626);
    expect(laneOf("default", "orders")).toBe(2_915_283_561);
    expect(laneOf("", "")).toBe(2_451_332_407);
    expect(laneOf("acme", "%RETRY%日本")).toBe(1_989_906_264);
  });

  it("P5: the same key is the same id, another tenant, group or key is another", () => {
    const text = fc.string({ unit: "grapheme", maxLength: 8 });
    const name = fc.tuple(text, text, fc.option(text, { nil: undefined }));
    fc.assert(
      fc.property(name, name, (a, b) => {
        const [idA, idB] = [idOfKey(a[0], a[1], a[2]), idOfKey(b[0], b[1], b[2])];
        const same = a[0] === b[0] && a[1] === b[1] && a[2] === b[2];
        expect(idA === idB).toBe(same);
        expect([versionOf(idA), variantOf(idA), parseMessageId(idA)]).toEqual(["5", 0b10, idA]);
      }),
    );
  });

  it("parts are kept apart: moving a character over a border makes another id", () => {
    expect(nameBasedId(["a", "bc"])).not.toBe(nameBasedId(["ab", "c"]));
    expect(nameBasedId(["a:1", "b"])).not.toBe(nameBasedId(["a", "1:b"]));
    expect(nameBasedId(["a", ""])).not.toBe(nameBasedId(["a"]));
    expect(idOfKey("t", "k", "")).not.toBe(idOfKey("t", "k"));
  });

  it("a group lives in one shard, with keys or without", () => {
    fc.assert(
      fc.property(
        fc.string(),
        fc.string(),
        fc.array(fc.string(), { minLength: 1 }),
        tails,
        (tenant, group, keys, n) => {
          const shardCount = (n % 256) + 1;
          const tail = groupTail(tenant, group);
          const shards = keys.map((key) => shardOf(idOfKey(tenant, key, group), shardCount));
          shards.push(shardOf(timeOrderedId(1, new Uint8Array(10), tail), shardCount));
          expect(new Set(shards)).toEqual(new Set([tail % shardCount]));
        },
      ),
    );
  });
});

describe("shards and lanes", () => {
  it("the shard is the tail modulo the shard count", () => {
    fc.assert(
      fc.property(raw, fc.integer({ min: 1, max: 0x10000 }), (bytes, shardCount) => {
        expect(shardOf(idFromBytes(bytes), shardCount)).toBe(bytes.readUInt16BE(14) % shardCount);
      }),
    );
  });

  // Names as people make them, counted up: 32 places get 312 each; 5 standard deviations are 87.
  const perPlace = 10_000 / 32;
  const spread = (placeOf: (i: number) => number) => {
    const counts = new Array<number>(32).fill(0);
    for (let i = 0; i < 10_000; i++) counts[placeOf(i)]!++;
    return Math.max(...counts.map((count) => Math.abs(count - perPlace)));
  };

  it("keys, groups and lanes spread evenly", () => {
    expect(spread((i) => shardOf(idOfKey("default", `order-${i}`), 32))).toBeLessThan(87);
    expect(spread((i) => groupTail("default", `customer-${i}`) % 32)).toBeLessThan(87);
    expect(spread((i) => laneOf(`tenant-${i % 100}`, `topic-${i}`) % 32)).toBeLessThan(87);
    expect(spread((i) => laneOf(`tenant-${i % 100}`, `topic-${i}`) >>> 27)).toBeLessThan(87);
  });

  it("a lane is 32 bits without a sign, and tells tenant from topic", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (tenant, topic) => {
        const lane = laneOf(tenant, topic);
        expect(lane >>> 0).toBe(lane);
      }),
    );
    expect(laneOf("a", "b")).not.toBe(laneOf("b", "a"));
    expect(laneOf("ab", "c")).not.toBe(laneOf("a", "bc"));
  });
});
