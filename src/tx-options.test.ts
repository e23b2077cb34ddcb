import { describe, expect, it } from "vitest";
import { joinedOf } from "./tx-join.ts";
import { checkInboxOptions, checkProducerOptions, checkRelayOptions, poolOf } from "./tx-options.ts";
import { createInbox } from "./tx-tables.ts";

// Options as a program without types might give them.
const pool = { getConnection: () => {} };
const least = { rocketmq: { endpoint: "127.0.0.1:8081" }, db: { transaction: () => {}, pool } };

const refused = (work: () => unknown): unknown[] | undefined => {
  try {
    work();
    return undefined;
  } catch (error) {
    const { code, field, message } = error as { code?: string; field?: string; message: string };
    return [code, field, message];
  }
};
const ofProducer = (over: object) => refused(() => checkProducerOptions({ ...least, ...over } as never));

describe("options of createTxProducer", () => {
  it("that are right are taken, all of them, and undefined ones are absent", () => {
    expect(ofProducer({})).toBeUndefined();
    const all = {
      pool,
      escapement: { url: "http://127.0.0.1:7361", headers: { authorization: "x" } },
      mode: "half",
      half: {
        topics: ["a"],
        delayedTopics: [],
        ingestTopic: "IN",
        watchGroup: "w",
        admin: ["127.0.0.1:10911"],
        keepBodyBytesMax: 0,
        rebuild: async () => Buffer.alloc(1),
        isReplica: false,
        timing: { turnMs: 1, commitWithinMs: 0, backstopAfterMs: 1, backstopLatestMs: 1, keepSettledMs: 1 },
      },
      order: "strict",
      fastPath: { graceMs: 0 },
      relay: { batch: 1, parallel: 1, idlePollMs: [1, 2], leaseMs: 100, perSecondMax: 1, keepOutcomesMs: 0 },
      outsideTx: "send-now",
      keepOutcomesMs: 0,
      ingestTopic: "IN",
      log: {},
    };
    expect(ofProducer(all)).toBeUndefined();
    expect(ofProducer({ fastPath: false, relay: false, half: undefined, pool: undefined })).toBeUndefined();
  });

  const mistakes: [object, string, RegExp][] = [
    [{ db: undefined }, "db", /is missing/],
    [{ db: pool }, "db", /fromMysql2\(pool\)/],
    [{ rocketmq: undefined }, "rocketmq", /is missing/],
    [{ rocketmq: {} }, "rocketmq.endpoint", /is missing/],
    [{ rocketmq: { endpoint: "x", sendTimeoutMs: 0 } }, "rocketmq.sendTimeoutMs", /from 1 to/],
    [{ pool: { ...pool, promise: () => pool } }, "pool", /pool\.promise\(\)/],
    [{ escapement: "http://x" }, "escapement", /an object, not "http/],
    [{ mode: "Half" }, "mode", /"outbox" or "half", not "Half"/],
    [{ half: { topics: "a" } }, "half.topics", /array of texts/],
    [{ half: {} }, "half.topics", /is missing/],
    [{ half: { topics: ["a", 1] } }, "half.topics[1]", /not 1/],
    [{ half: { topics: ["a"], timing: { turnMs: "10s" } } }, "half.timing.turnMs", /whole number/],
    [{ order: "Strict" }, "order", /"key" or "strict", not "Strict"/],
    [{ outsideTx: "send" }, "outsideTx", /"send-now"/],
    [{ fastPath: true }, "fastPath", /an object/],
    [{ fastPath: { graceMs: -1 } }, "fastPath.graceMs", /from 0 to 3600000, not -1/],
    [{ relay: { perSecondMax: 0 } }, "relay.perSecondMax", /from 1 to/],
    [{ relay: { perSecondMax: Number.POSITIVE_INFINITY } }, "relay.perSecondMax", /not Infinity/],
    [{ relay: { idlePollMs: 50 } }, "relay.idlePollMs", /two numbers/],
    [{ relay: { idlePollMs: [50, Number.NaN] } }, "relay.idlePollMs[1]", /not NaN/],
    [{ relay: { leaseMs: 1.5 } }, "relay.leaseMs", /whole number/],
    [{ keepOutcomesMs: "1h" }, "keepOutcomesMs", /0 or more, not "1h"/],
    [{ log: null }, "log", /not null/],
    [{ ingestTopic: " " }, "ingestTopic", /not blank/],
    [{ fastpath: false }, "fastpath", /is not an option; there are .*fastPath/],
    [{ relay: { leaseMillis: 1 } }, "relay.leaseMillis", /is not an option/],
  ];
  it.each(mistakes)("that are wrong are refused before anything is opened: %o", (over, field, text) => {
    expect(ofProducer(over)).toEqual(["invalid_config", field, expect.stringMatching(text)]);
  });

  it("that are no object are refused in words", () => {
    expect(refused(() => checkProducerOptions(undefined as never))).toEqual([
      "invalid_config",
      "options",
      "options must be an object, not undefined.",
    ]);
  });

  it("with mode half need half", () => {
    expect(ofProducer({ mode: "half" })).toEqual([
      "half_missing",
      undefined,
      expect.stringMatching(/half: \{ topics \}/),
    ]);
  });

  it("need a pool beside the transactions of other libraries, with room for what we hold of it", () => {
    const sized = (connectionLimit: number) => ({ ...pool, pool: { config: { connectionLimit } } });
    const of = (over: object) => refused(() => poolOf({ ...least, ...over } as never));
    expect(of({})).toBeUndefined();
    expect(of({ db: { transaction: () => {} } })).toEqual(["invalid_config", "pool", expect.stringMatching(/missing/)]);
    expect(of({ pool: sized(3) })).toEqual(["invalid_config", "pool", expect.stringMatching(/holds two.* 4 or more/)]);
    expect(of({ pool: sized(4) })).toBeUndefined();
    expect(of({ pool: sized(4), half: {} })?.[2]).toMatch(/holds three.* 6 or more/);
  });
});

it("options of a relay and of an inbox are checked the same way", () => {
  const relay = { rocketmq: { endpoint: "x" }, pool };
  const ofRelay = (over: object) => refused(() => checkRelayOptions({ ...relay, ...over } as never));
  expect(ofRelay({ settings: { batch: 200 } })).toBeUndefined();
  expect(ofRelay({ pool: undefined })?.slice(0, 2)).toEqual(["invalid_config", "pool"]);
  expect(ofRelay({ settings: { batch: 0 } })?.[1]).toBe("settings.batch");
  expect(ofRelay({ relay: {} })?.[1]).toBe("relay");
  const ofInbox = (options: object) => refused(() => checkInboxOptions(options as never));
  expect(ofInbox({ pool, keepMs: 1_000 })).toBeUndefined();
  expect(ofInbox({ pool })?.[1]).toBe("keepMs");
  expect(ofInbox({ pool, keepMs: "7d" })?.[2]).toMatch(/whole number, 1 or more, not "7d"/);
});

describe("what is handed over as a transaction", () => {
  it("is a wrapped one, taken as it is, or a connection of mysql2", () => {
    const wrapped = { execute: async () => [], connection: {}, fault: () => undefined };
    expect(joinedOf(wrapped)).toBe(wrapped);
    const connection = { query: async () => [[], []] };
    expect(joinedOf(connection as never).fault()).toBeUndefined();
  });

  it("or is refused in words: nothing, a pool, something else", () => {
    for (const given of [undefined, null, "trx", pool, {}]) {
      expect(refused(() => joinedOf(given as never))?.[0]).toBe("not_a_transaction");
    }
  });
});

it("an inbox that is asked about a message without an id says so", async () => {
  const inbox = createInbox({ pool: pool as never, keepMs: 1_000 });
  const connection = { query: async () => [[], []] } as never;
  const asked = inbox.once(connection, "billing", undefined as never, async () => {});
  await expect(asked).rejects.toMatchObject({
    code: "invalid_field",
    field: "messageId",
    message: expect.stringMatching(/ESC_ID/),
  });
});
