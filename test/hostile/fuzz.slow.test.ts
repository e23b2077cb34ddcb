import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { testApp, testNowMs } from "../../src/admin/testing.ts";
import { admitReschedule, admitSchedule } from "../../src/ingest/admit.ts";
import { isEscapementError } from "../../src/message/errors.ts";
import { parseDuration, parseInstant } from "../../src/message/parse-time.ts";
import { judgeDuration, judgeInstant, judgeMessage } from "./judge.ts";

// Random input of every shape: the answer is never 5xx, nothing invalid is accepted, nothing valid is refused, and
// what is accepted arrives with every byte. `FUZZ_RUNS=100000` for a long night.

const runs = Number(process.env.FUZZ_RUNS ?? 2_000);

const context = {
  tenant: "t",
  nowMs: testNowMs,
  random: { float: () => 0.5, bytes: <T extends Uint8Array>(target: T): T => target.fill(7) as T },
  tail: 1,
};
const accepts = (act: () => unknown): boolean => {
  try {
    act();
    return true;
  } catch (error) {
    if (!isEscapementError(error) || error.status >= 500) throw error;
    return false;
  }
};

// --- requests that are nearly right -----------------------------------------------------------------------------

const odd = fc.constantFrom<unknown>(
  null,
  true,
  0,
  -1,
  1.5,
  7,
  1e300,
  Number.POSITIVE_INFINITY,
  "",
  " ",
  "x",
  [],
  {},
  [[]],
  { a: 1 },
);
const text = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc.string({ unit: "binary", maxLength: 10 }),
  fc.string({
    unit: fc.constantFrom(
      "a",
      " ",
      "|",
      "é",
      "\u0001",
      "\u0080",
      "\u00a0",
      "\ud800",
      "\udc00",
      "\u{1F4E8}",
      "%",
      "\ufeff",
    ),
    maxLength: 8,
  }),
  fc.constantFrom(
    "a".repeat(63),
    "a".repeat(64),
    "é".repeat(31),
    "é".repeat(32),
    "a".repeat(127),
    "a".repeat(128),
    "a".repeat(256),
    "a".repeat(257),
  ),
);
const digits = (min: number, max: number) => fc.integer({ min, max }).map(String);
const durationText = fc.oneof(
  fc
    .array(fc.tuple(digits(0, 99), fc.constantFrom("w", "d", "h", "m", "s", "ms")), { maxLength: 3 })
    .map((parts) => parts.flat().join("")),
  fc
    .tuple(digits(0, 400), digits(0, 999), fc.constantFrom("d", "h", "m", "s", "ms"))
    .map(([a, b, unit]) => `${a}.${b}${unit}`),
  fc.tuple(digits(0, 400), digits(0, 30), digits(0, 70)).map(([d, h, m]) => `P${d}DT${h}H${m}M`),
  fc
    .array(fc.constantFrom("P", "T", "D", "H", "M", "S", "W", "Y", "1", "20", ".", "-"), { maxLength: 7 })
    .map((parts) => `P${parts.join("")}`),
  digits(-1, 20).map((level) => `level:${level}`),
);
const instantText = fc.oneof(
  fc
    .date({ min: new Date(0), max: new Date(testNowMs + 400 * 86_400_000), noInvalidDate: true })
    .map((date) => date.toISOString()),
  fc
    .tuple(
      digits(1969, 2029),
      digits(0, 13),
      digits(0, 32),
      digits(0, 24),
      digits(0, 60),
      digits(0, 61),
      fc.constantFrom("", ".5", ".000000001", "."),
      fc.constantFrom("Z", "z", "+08:00", "-23:59", "+24:00", ""),
    )
    .map(
      ([y, mo, d, h, mi, s, fraction, offset]) =>
        `${y}-${mo.padStart(2, "0")}-${d.padStart(2, "0")}T${h.padStart(2, "0")}:${mi.padStart(2, "0")}:${s.padStart(2, "0")}${fraction}${offset}`,
    ),
);
const duration = fc.oneof(
  { weight: 4, arbitrary: durationText },
  { weight: 4, arbitrary: fc.integer({ min: -1_000_000, max: 366 * 86_400_000 }) },
  odd,
);
const instant = fc.oneof(
  { weight: 4, arbitrary: instantText },
  { weight: 4, arbitrary: fc.integer({ min: testNowMs - 1e12, max: testNowMs + 366 * 86_400_000 }) },
  odd,
);
const topic = fc.oneof(
  { weight: 8, arbitrary: fc.string({ unit: fc.constantFrom(..."abzAZ09_-%|"), minLength: 1, maxLength: 20 }) },
  text,
  fc.constantFrom("TBW102", "rmq_sys_x"),
  odd,
);
const base64 = fc.oneof(
  fc.uint8Array({ maxLength: 9 }).map((bytes) => Buffer.from(bytes).toString("base64")),
  fc.string({ unit: fc.constantFrom("A", "B", "g", "=", "-", "/"), maxLength: 8 }),
  odd,
);
const properties = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.dictionary(
      fc.oneof(
        fc.string({ minLength: 1, maxLength: 6 }),
        fc.constantFrom("KEYS", "ESC_ID", "DELAY", "constructor", "color", ""),
      ),
      fc.oneof({ weight: 8, arbitrary: fc.string({ minLength: 1 }) }, text, odd),
      { maxKeys: 4 },
    ),
  },
  fc
    .integer({ min: 120, max: 130 })
    .map((count) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`p${i}`, "v"]))),
  fc.integer({ min: 16_200, max: 16_300 }).map((bytes) => ({ p: "x".repeat(bytes) })),
  odd,
);
/** Mostly absent: with a dozen fields that are each often wrong, hardly a message would be valid. */
const maybe = <T>(name: string, arbitrary: fc.Arbitrary<T>, absent = 5) =>
  fc.oneof(
    { weight: absent, arbitrary: fc.constant({}) },
    { weight: 1, arbitrary: arbitrary.map((value) => ({ [name]: value })) },
  );

const retry = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(
        fc.record(
          {
            maxAttempts: fc.oneof({ weight: 6, arbitrary: fc.integer({ min: -1, max: 1002 }) }, odd),
            initial: fc.oneof({ weight: 3, arbitrary: fc.integer({ min: 0, max: 10_000 }) }, duration),
            max: duration,
            multiplier: fc.oneof({ weight: 6, arbitrary: fc.double({ min: 0, max: 11 }) }, odd),
          },
          { requiredKeys: [] },
        ),
        maybe("x", odd, 15),
      )
      .map((parts) => Object.assign({}, ...parts)),
  },
  odd,
);

const request = fc
  .tuple(
    topic.map((value) => ({ topic: value })),
    fc.oneof(
      { weight: 5, arbitrary: fc.oneof(fc.string({ minLength: 1 }), text).map((body) => ({ body })) },
      base64.map((bodyBase64) => ({ bodyBase64 })),
      odd.map((body) => ({ body })),
      fc.constant({}),
    ),
    fc.oneof(
      { weight: 5, arbitrary: duration.map((delay) => ({ delay })) },
      { weight: 5, arbitrary: instant.map((deliverAt) => ({ deliverAt })) },
      fc.constant({}),
      fc.constant({ delay: 1, deliverAt: testNowMs }),
    ),
    maybe("tag", fc.oneof(text, odd)),
    maybe("key", fc.oneof(text, odd), 2),
    maybe("messageGroup", fc.oneof(text, odd)),
    maybe(
      "keys",
      fc.oneof(fc.array(text, { maxLength: 3 }), fc.array(fc.constant("k"), { minLength: 31, maxLength: 33 }), odd),
      6,
    ),
    maybe("properties", properties),
    maybe("onConflict", fc.oneof(fc.constantFrom("keep", "replace"), odd), 6),
    maybe("expireAfter", fc.oneof(duration, instant), 6),
    maybe("retry", retry, 6),
    maybe("waitForTopic", fc.oneof(fc.boolean(), odd), 8),
    fc.oneof(
      { weight: 30, arbitrary: fc.constant({}) },
      fc.dictionary(fc.string({ maxLength: 5 }), odd, { minKeys: 1, maxKeys: 2 }),
    ),
  )
  .map((parts): Record<string, unknown> => Object.assign({}, ...parts));

describe("admit", () => {
  it("accepts exactly what an independent judge calls valid, and keeps every byte of it", () => {
    let accepted = 0;
    fc.assert(
      fc.property(request, (given) => {
        const valid = judgeMessage(given, testNowMs);
        expect(accepts(() => admitSchedule(given, context))).toBe(valid);
        if (!valid) return;
        accepted++;
        const { message } = admitSchedule(given, context);
        const body =
          given.body === undefined
            ? Buffer.from(given.bodyBase64 as string, "base64")
            : Buffer.from(given.body as string);
        expect(message.body.equals(body)).toBe(true);
        expect(Object.fromEntries(message.properties)).toEqual(given.properties ?? {});
        expect(message.keys).toEqual(given.keys ?? []);
        expect([message.topic, message.tag, message.key, message.messageGroup]).toEqual(
          ["topic", "tag", "key", "messageGroup"].map((name) => given[name]),
        );
        const wait = judgeDuration(given.delay);
        expect(message.deliverAtMs).toBe(wait === undefined ? judgeInstant(given.deliverAt) : testNowMs + wait);
      }),
      { numRuns: runs * 5 },
    );
    // The generator must keep both sides of the border busy.
    expect(accepted).toBeGreaterThan(runs / 10);
  });

  it("reads times exactly as the judge does", () => {
    const anything = fc.oneof(durationText, instantText, text, odd);
    fc.assert(
      fc.property(anything, (value) => {
        const asDuration = judgeDuration(value);
        const tooLong = asDuration !== undefined && asDuration > 253_402_300_799_999;
        expect(accepts(() => parseDuration(value))).toBe(asDuration !== undefined && !tooLong);
        if (asDuration !== undefined && !tooLong) expect(parseDuration(value)).toBe(asDuration);
        const asInstant = judgeInstant(value);
        expect(accepts(() => parseInstant(value))).toBe(asInstant !== undefined);
        if (asInstant !== undefined) expect(parseInstant(value)).toBe(asInstant);
      }),
      { numRuns: runs * 2 },
    );
  });

  it("answers any value at all with a coded refusal", () => {
    fc.assert(
      fc.property(
        fc.anything({
          withBigInt: true,
          withDate: true,
          withMap: true,
          withNullPrototype: true,
          withObjectString: true,
          withSparseArray: true,
        }),
        (value) => {
          expect(accepts(() => admitSchedule(value, context))).toBe(false);
          accepts(() => admitReschedule(value, context));
        },
      ),
      { numRuns: runs },
    );
  });
});

describe("the HTTP app", () => {
  const t = testApp();
  beforeAll(async () => {
    await t.app.ready();
  });
  beforeEach(() => t.intake.reset());
  afterAll(() => t.app.close());

  const send = async (payload: string | Buffer, url = "/v1/messages", type = "application/json") => {
    const reply = await t.app.inject({ method: "POST", url, headers: { "content-type": type }, payload });
    expect(reply.statusCode).toBeLessThan(500);
    expect(t.bugs).toEqual([]);
    return reply;
  };

  it("stores what is valid and refuses the rest", async () => {
    await fc.assert(
      fc.asyncProperty(request, async (given) => {
        t.intake.reset();
        const payload = JSON.stringify(given);
        // JSON has no Infinity; what it becomes is what is judged.
        const valid = judgeMessage(JSON.parse(payload), testNowMs);
        const reply = await send(payload);
        expect(reply.statusCode < 300).toBe(valid);
        expect(t.intake.accepted.length).toBe(valid ? 1 : 0);
        if (!valid) expect(reply.json()).toMatchObject({ code: expect.any(String), detail: expect.any(String) });
      }),
      { numRuns: runs },
    );
  });

  it("accepts no random JSON, and no random text", async () => {
    const junk = fc.oneof(
      fc.jsonValue().map((value) => JSON.stringify(value)),
      fc.string(),
      fc.json().map((json) => json.slice(1)),
    );
    await fc.assert(
      fc.asyncProperty(junk, async (payload) => {
        expect((await send(payload)).statusCode).toBeGreaterThanOrEqual(400);
        expect(t.intake.accepted).toEqual([]);
      }),
      { numRuns: runs },
    );
  });

  it("stays sensible when bytes of a valid request are flipped, cut or doubled", async () => {
    const valid = Buffer.from(
      JSON.stringify({
        topic: "orders",
        body: "héllo \u{1F4E8}",
        delay: "1h30m",
        tag: "t",
        keys: ["k1"],
        properties: { color: "red" },
        key: "k",
        retry: { max: "1h" },
      }),
    );
    const change = fc.record({
      at: fc.nat(valid.length - 1),
      how: fc.constantFrom("flip", "cut", "double", "set"),
      bit: fc.nat(7),
      byte: fc.nat(255),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
        t.intake.reset();
        let bytes = Buffer.from(valid);
        for (const { at, how, bit, byte } of changes) {
          if (bytes.length === 0) break;
          const i = at % bytes.length;
          if (how === "flip") bytes[i]! ^= 1 << bit;
          else if (how === "set") bytes[i] = byte;
          else if (how === "cut") bytes = Buffer.concat([bytes.subarray(0, i), bytes.subarray(i + 1)]);
          else bytes = Buffer.concat([bytes.subarray(0, i), bytes.subarray(i, i + 8), bytes.subarray(i)]);
        }
        const reply = await send(bytes);
        let judged = false;
        try {
          judged = judgeMessage(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)), testNowMs);
        } catch {
          // Not JSON, or not UTF-8.
        }
        expect(reply.statusCode < 300).toBe(judged);
        expect(t.intake.accepted.length).toBe(judged ? 1 : 0);
      }),
      { numRuns: runs },
    );
  });

  it("answers any lines with as many results, in order", async () => {
    const line = fc.oneof(
      request.map((value) => JSON.stringify(value)),
      fc.string().map((some) => some.replaceAll("\n", "")),
      fc.constant(""),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(line, { maxLength: 12 }), async (some) => {
        t.intake.reset();
        const reply = await send(some.join("\n"), "/v1/messages/batch", "application/x-ndjson");
        const results =
          reply.payload === ""
            ? []
            : reply.payload
                .trimEnd()
                .split("\n")
                .map((text) => JSON.parse(text));
        const wanted = some.filter((text) => !/^[ \t\r]*$/.test(text));
        expect(results.map(({ index }) => index)).toEqual(wanted.map((_, i) => i));
        expect(results.filter(({ message }) => message !== undefined)).toHaveLength(
          wanted.filter((text) => {
            try {
              return judgeMessage(JSON.parse(text), testNowMs);
            } catch {
              return false;
            }
          }).length,
        );
      }),
      { numRuns: Math.ceil(runs / 5) },
    );
  });
});
