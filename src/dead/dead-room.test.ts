import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { MessageId } from "../message/id.ts";
import { epochMs } from "../message/time.ts";
import { offsetMs } from "./pace.ts";
import {
  count,
  decodePortion,
  encodePortion,
  follow,
  isFinal,
  noCounts,
  type OutcomeCode,
  outcomeCodes,
  type Portion,
  readToken,
  tokenText,
} from "./portion.ts";
import { cursorText, readCursor, scanLimits } from "./scan.ts";
import { DeadWorld, envelopeOf, t0 } from "./testing/dead-world.ts";

// Looking at the dead: what is found, how much is looked at for it, and that it says when there is more.

const failure = (parts: object) => ({ history: [{ ...envelopeOf(0).history[0]!, ...parts }] });

const world = async () => {
  const w = new DeadWorld();
  const ids: Record<string, MessageId> = {};
  const bury = async (name: string, atMs: number, ...args: Parameters<DeadWorld["bury"]>) => {
    w.nowMs = t0 + atMs;
    ids[name] = await w.bury(...args);
  };
  await bury("lone", 0, w.message({ key: "Order-7" }));
  await bury("refused", 100, w.message({ topic: "ESC_INGEST" }), "invalid_topic", "topic is empty");
  await bury("billing", 200, w.consumers(), "attempts_exhausted", "80 attempts, 80 allowed");
  await bury("other", 300, w.consumers({ group: "mail", originId: "0FFF@h" }), "crash_loop", "3 crashes");
  await bury(
    "tls",
    400,
    w.consumers(failure({ fingerprint: "ffff0000", code: "ETLS", text: "bad Certificate" })),
    "permanent",
    "x",
  );
  w.nowMs = t0 + 1_000;
  return { w, ids };
};

describe("the list", () => {
  it("finds by topic, group, fingerprint, code, time and text, all together", async () => {
    const { w, ids } = await world();
    const found = async (query: Record<string, string>) => {
      const { items, complete } = await w.room.list(query, 100, "default");
      expect(complete).toBe(true);
      return Object.keys(ids).filter((name) => items.some(({ id }) => id === ids[name]));
    };
    expect(await found({})).toEqual(["lone", "refused", "billing", "other", "tls"]);
    expect(await found({ topic: "orders" })).toEqual(["lone"]);
    expect(await found({ topic: "payments" })).toEqual(["billing", "other", "tls"]);
    expect(await found({ topic: "ESC_RETRY_billing", group: "mail" })).toEqual(["other"]);
    expect(await found({ fingerprint: "a1b2c3d4" })).toEqual(["billing", "other"]);
    expect(await found({ code: "ETLS" })).toEqual(["tls"]);
    expect(await found({ code: "crash_loop" })).toEqual(["other"]);
    expect(await found({ from: String(t0 + 200), until: String(t0 + 400) })).toEqual(["billing", "other"]);
    expect(await found({ text: "order-7" })).toEqual(["lone"]);
    expect(await found({ text: "certificate" })).toEqual(["tls"]);
    expect(await found({ text: "0fff@H" })).toEqual(["other"]);
    expect(await found({ text: ids.refused! })).toEqual(["refused"]);
    expect((await w.room.list({}, 100, "somebody else")).items).toEqual([]);
  });

  it("tells what its consumer wrote: where from, attempts, and each failure with class and fingerprint", async () => {
    const { w, ids } = await world();
    const shown = await w.room.show(ids.billing!, true, "default");
    expect(shown).toMatchObject({
      state: "dead",
      endedAt: "2027-01-15T08:00:00.200Z",
      reason: { code: "attempts_exhausted", detail: "80 attempts, 80 allowed" },
      bodyBase64: expect.any(String),
      retry: {
        group: "billing",
        originTopic: "payments",
        attempts: 4,
        crashes: 1,
        policy: "default@3",
        replays: 0,
        history: [
          {
            attempt: 4,
            class: "transient",
            code: "ECONNREFUSED",
            fingerprint: "a1b2c3d4",
            text: "connect ECONNREFUSED 10.0.0.9:443",
          },
        ],
      },
    });
    expect(shown.properties).toEqual({});
    await expect(w.room.show("x", false, "default")).rejects.toMatchObject({ code: "invalid_id" });
    const gone = w.room.show(
      ids.billing!.replace(/.$/, (c) => (c === "0" ? "1" : "0")),
      false,
      "default",
    );
    await expect(gone).rejects.toMatchObject({ code: "not_found" });
  });

  it("looks at a bounded number, says that there is more, and goes on from there to the end", async () => {
    const w = new DeadWorld();
    await w.buryMany(scanLimits.messages + 1_500);
    const needle = await w.bury(w.message({ topic: "refunds" }));
    const first = await w.room.list({ topic: "nothing" }, 100, "default");
    expect(first).toMatchObject({ items: [], complete: false });
    expect(first.scanned).toBeLessThan(scanLimits.messages + scanLimits.page);
    let [scanned, pages] = [0, 0];
    let cursor: string | undefined;
    const found: string[] = [];
    do {
      const page = await w.room.list({ topic: "refunds", ...(cursor === undefined ? {} : { cursor }) }, 10, "default");
      found.push(...page.items.map(({ id }) => id));
      expect(page.complete).toBe(page.cursor === undefined);
      scanned += page.scanned;
      cursor = page.cursor;
      pages++;
    } while (cursor !== undefined);
    expect(found).toEqual([needle]);
    expect(scanned).toBe(scanLimits.messages + 1_501);
    expect(pages).toBeLessThan(20);
  });

  it("refuses a cursor that it did not give out, and a mistaken query, before the store is asked", async () => {
    const { w } = await world();
    for (const cursor of [
      "",
      "x",
      "0",
      "99~0",
      `${cursorText({ shard: 1, cursor: "5:3" })}x`,
      cursorText({ shard: 4, cursor: undefined }),
    ]) {
      await expect(w.room.list({ cursor }, 10, "default")).rejects.toMatchObject({
        code: "invalid_field",
        field: "cursor",
      });
    }
    await expect(w.room.list({ from: "yesterday" }, 10, "default")).rejects.toMatchObject({ code: "invalid_field" });
    await expect(w.room.list({ topic: "" }, 10, "default")).rejects.toMatchObject({ code: "invalid_field" });
    expect(readCursor(cursorText({ shard: 3, cursor: "5:3" }), 4)).toEqual({ shard: 3, cursor: "5:3" });
  });

  it("groups by cause, the largest first, with first, last and a sample", async () => {
    const { w } = await world();
    w.nowMs = t0 + 2_000;
    for (let i = 0; i < 3; i++) await w.bury(w.consumers(), "attempts_exhausted", "80 attempts, 80 allowed");
    const { groups, scanned, complete, untold } = await w.room.groups({}, "default");
    expect({ scanned, complete, untold }).toEqual({ scanned: 8, complete: true, untold: 0 });
    expect(groups).toHaveLength(5);
    expect(groups[0]).toEqual({
      topic: "payments",
      group: "billing",
      code: "attempts_exhausted",
      fingerprint: "a1b2c3d4",
      count: 4,
      firstAt: "2027-01-15T08:00:00.200Z",
      lastAt: "2027-01-15T08:00:02.000Z",
      sample: { id: expect.any(String), text: "connect ECONNREFUSED 10.0.0.9:443" },
    });
    expect((await w.room.groups({ group: "mail" }, "default")).groups).toHaveLength(1);
  });
});

describe("discarding", () => {
  it("removes what fits and was dead when it began, and nothing else; a dry run only counts", async () => {
    const { w, ids } = await world();
    const request = { filter: { topic: "payments" }, reason: "test data", by: "ada" };
    expect(await w.room.discard({ ...request, dryRun: true }, "default")).toMatchObject({ matched: 3, discarded: 0 });
    expect(await w.room.discard(request, "default")).toMatchObject({ matched: 3, discarded: 3, complete: true });
    expect((await w.room.list({}, 10, "default")).items.map(({ id }) => id).sort()).toEqual(
      [ids.lone, ids.refused].sort(),
    );
    expect((await w.get(ids.billing!))?.state).toBe("canceled");
    await expect(w.room.discard({ filter: {} }, "default")).rejects.toMatchObject({ field: "reason" });
    await expect(w.room.discard({ reason: "x" }, "default")).rejects.toMatchObject({ code: "missing_field" });
  });
});

describe("the parts", () => {
  it("the pace: monotonous, a tenth of the rate at first, the rate behind the ramp, for any rate and ramp", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.01, max: 20_000, noNaN: true }),
        fc.integer({ min: 0, max: 3_600_000 }),
        fc.nat(1e6),
        (perSec, rampMs, k) => {
          const pace = { perSec, rampMs };
          const here = offsetMs(pace, k);
          const next = offsetMs(pace, k + 1);
          expect(offsetMs(pace, 0)).toBe(0);
          expect(next).toBeGreaterThan(here);
          const step = next - here;
          expect(step).toBeLessThanOrEqual((10_000 / perSec) * (1 + 1e-6));
          if (here >= rampMs) expect(Math.abs(step - 1_000 / perSec)).toBeLessThan(1e-3 * step + 1e-6);
        },
      ),
    );
    expect(offsetMs({ perSec: 100, rampMs: 10_000 }, 550)).toBeCloseTo(10_000, 6);
    expect(offsetMs({ perSec: 100, rampMs: 10_000 }, 650)).toBeCloseTo(11_000, 6);
  });

  const codes = Object.keys(outcomeCodes) as OutcomeCode[];

  it("a portion reads back as it was written, and fits a document with as many as it may have", () => {
    const w = new DeadWorld();
    const ids = Array.from({ length: 2_000 }, () => w.message().id);
    const portion: Portion = {
      number: 7,
      ids,
      diedAtMs: ids.map((_, i) => epochMs(t0 + i)),
      isConsumers: ids.map((_, i) => i % 3 === 0),
      codes: ids.map((_, i) => codes[i % codes.length]!),
    };
    const text = encodePortion(portion, { places: new Array(128).fill("1800000000000.ASNFZ4mrze8BI0VniavN7w") });
    expect(text.length).toBeLessThan(200_000);
    expect(decodePortion(7, text).portion).toEqual(portion);
    const done = { ...portion, codes: ids.map(() => "succeeded" as const) };
    expect(decodePortion(7, encodePortion(done, null)).portion.codes).toEqual(done.codes);
  });

  it("outcomes: what is final stays, nothing becomes intended again, and counts follow every step", () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...codes)), (news) => {
        const counts = noCounts();
        let code: OutcomeCode = "intended";
        for (const one of news.filter((news) => news !== "intended")) {
          const before: OutcomeCode = code;
          code = follow(before, one);
          if (isFinal(before) && before !== "unknown") expect(code).toBe(before);
          count(counts, before, -1);
          count(counts, code, 1);
        }
        expect(Object.values(counts).every((n) => n === 0 || n === 1)).toBe(true);
        const { sent, skipped, ...kinds } = counts;
        expect(sent).toBe(Object.values(kinds).reduce((a, b) => a + b, 0));
        expect(sent + skipped).toBe(code === "intended" ? 0 : 1);
      }),
    );
  });

  it("a token finds its message again, and nothing else is one", () => {
    const token = { job: "mbq1x2k94f7a", portion: 12, index: 1_999 };
    expect(readToken(tokenText(token))).toEqual(token);
    for (const text of ["", "a.b.c", "A.1.1", "a.1", "a.1.1.1", "../x.1.1", `${"a".repeat(25)}.1.1`]) {
      expect(readToken(text)).toBeUndefined();
    }
  });
});
