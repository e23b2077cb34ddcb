import { describe, expect, it } from "vitest";
import { MemoryDelayStore } from "../adapters/memory/memory-delay-store.ts";
import { bayOf, placeInBay } from "../message/bay.ts";
import { shardOf } from "../message/id.ts";
import { durationMs, epochMs } from "../message/time.ts";
import type { RetryEnvelope } from "../retry/envelope.ts";
import { decodeEnvelope, encodeEnvelope } from "../retry/envelope-codec.ts";
import { silentLog } from "../runtime/log.ts";
import { TopicReceiver } from "./topic-receiver.ts";
import type { IncomingMessage } from "./topic-source.port.ts";

const nowMs = epochMs(Date.UTC(2027, 0, 1));
const envelope: RetryEnvelope = {
  group: "billing",
  originTopic: "orders",
  originId: "0123",
  originBornAtMs: epochMs(nowMs - 10_000),
  hop: 3,
  attempt: 2,
  crashes: 0,
  parkedMs: durationMs(0),
  policy: "default@1",
  history: [{ attempt: 2, atMs: nowMs, class: "transient", code: "http_503", fingerprint: "f", text: "no" }],
  replays: 0,
  redirects: 0,
};
const incoming = (properties: Record<string, string>, brokerMessageId = "m1"): IncomingMessage => ({
  brokerMessageId,
  bornHost: "here",
  bornAtMs: nowMs,
  topic: "ESC_INGEST",
  tag: "paid",
  keys: ["order-1"],
  properties: new Map(Object.entries({ ESC_TOPIC: "ESC_RETRY_billing", color: "red", ...properties })),
  body: Buffer.from("body"),
  deliveryAttempt: 1,
  receipt: brokerMessageId,
});
const carried = (part: Partial<RetryEnvelope> = {}): string => encodeEnvelope({ ...envelope, ...part })!;

const receive = async (...batches: IncomingMessage[][]) => {
  const store = new MemoryDelayStore({ clockMs: () => nowMs, shardCount: 4 });
  const acked: string[] = [];
  const refused: string[] = [];
  const receiver = new TopicReceiver({
    source: {
      receive: async () => batches.shift() ?? [],
      ack: async (messages) => void acked.push(...messages.map(({ brokerMessageId }) => brokerMessageId)),
      close: async () => {},
    },
    store,
    accept: async ({ message, onConflict }) => {
      const shard = shardOf(message.id, store.shardCount);
      return (await store.schedule(shard, [{ message, ...(onConflict && { onConflict }) }]))[0]!;
    },
    parking: { placeFor: async (key, atMs) => placeInBay(key.length, atMs) },
    clock: { nowMs: () => nowMs, monotonicMs: () => 0 },
    random: { float: () => 0.5, bytes: (target) => target.fill(7) },
    log: silentLog,
    tenant: "default",
    ownTopics: new Set(["ESC_INGEST"]),
    counted: { accepted: () => {}, refused: (code) => void refused.push(code) },
    paused: () => false,
  });
  while (batches.length > 0) await receiver.runOnce(new AbortController().signal);
  const shards = [0, 1, 2, 3];
  const near = await Promise.all(
    shards.map((shard) => store.near(shard, epochMs(0), epochMs(253_402_300_799_999), undefined, 100)),
  );
  const ids = near.flatMap((page, shard) => page.ids.toArray().map((id) => ({ id, shard })));
  const waiting = await Promise.all(ids.map(async ({ id, shard }) => (await store.get(shard, [id]))[0]!.message!));
  const dead = (await Promise.all(shards.map((shard) => store.dead(shard, undefined, 100)))).flatMap(
    ({ items }) => items,
  );
  return { waiting, dead, acked, refused };
};
const envelopeOf = (properties: ReadonlyMap<string, string>): RetryEnvelope => {
  const decoded = decodeEnvelope(properties.get("ESC_RETRY")!);
  if (!decoded.ok) throw new Error(decoded.reason);
  return decoded.envelope;
};

describe("what a consumer hands over", () => {
  it("for a later attempt waits for its time, with its envelope and everything of the user", async () => {
    const { waiting, dead } = await receive([
      incoming({ ESC_RETRY: carried(), ESC_DELIVER_AT: String(nowMs + 60_000) }),
    ]);
    expect(dead).toEqual([]);
    expect(waiting).toMatchObject([
      { topic: "ESC_RETRY_billing", tag: "paid", keys: ["order-1"], deliverAtMs: nowMs + 60_000 },
    ]);
    expect([...waiting[0]!.properties.keys()].sort()).toEqual(["ESC_RETRY", "color"]);
    expect(envelopeOf(waiting[0]!.properties)).toEqual(envelope);
  });

  it("to be parked lies in the bay of its key, and says so and since when", async () => {
    const { waiting } = await receive([incoming({ ESC_RETRY: carried(), ESC_PARK: "acct:1" })]);
    expect(bayOf(waiting[0]!.deliverAtMs)).toBe("acct:1".length);
    expect(envelopeOf(waiting[0]!.properties)).toEqual({ ...envelope, parkedFor: "acct:1", parkedAtMs: nowMs });
    expect(waiting[0]!.properties.has("ESC_PARK")).toBe(false);
  });

  it("keeps the beginning of its stay, unless that is in the future", async () => {
    for (const [said, kept] of [
      [nowMs - 3_600_000, nowMs - 3_600_000],
      [nowMs + 3_600_000, nowMs],
    ] as const) {
      const { waiting } = await receive([
        incoming({ ESC_RETRY: carried({ parkedAtMs: epochMs(said), parkedFor: "other" }), ESC_PARK: "acct:1" }),
      ]);
      expect(envelopeOf(waiting[0]!.properties)).toMatchObject({ parkedFor: "acct:1", parkedAtMs: kept });
    }
  });

  it("given up is kept among the dead with its code, the last failure and the envelope", async () => {
    const { waiting, dead } = await receive([incoming({ ESC_RETRY: carried(), ESC_DEAD: "attempts_exhausted" })]);
    expect(waiting).toEqual([]);
    expect(dead).toMatchObject([{ reason: { code: "attempts_exhausted", detail: "http_503: no" } }]);
    expect(envelopeOf(dead[0]!.message!.properties)).toEqual(envelope);
    expect(dead[0]!.message!.topic).toBe("ESC_RETRY_billing");
  });

  it("RT-05: the same hop handed over twice is one message, the next hop another", async () => {
    const at = { ESC_DELIVER_AT: String(nowMs + 60_000) };
    const { waiting, acked } = await receive(
      [incoming({ ESC_RETRY: carried(), ...at }, "a")],
      [incoming({ ESC_RETRY: carried(), ...at }, "b"), incoming({ ESC_RETRY: carried({ hop: 4 }), ...at }, "c")],
      [incoming({ ESC_RETRY: carried({ group: "other" }), ...at }, "d")],
    );
    expect(acked).toEqual(["a", "b", "c", "d"]);
    expect(waiting.length).toBe(3);
  });

  it("keeps what failed within a moment in one shard, so that it is stored in few calls", async () => {
    const many = Array.from({ length: 30 }, (_, i) =>
      incoming({ ESC_RETRY: carried({ originId: `id-${i}` }), ESC_DELIVER_AT: String(nowMs + 60_000) }, `m${i}`),
    );
    const { waiting } = await receive(many);
    expect(new Set(waiting.map(({ id }) => shardOf(id, 4))).size).toBe(1);
  });

  it.each([
    ["a broken envelope", { ESC_RETRY: "{" }],
    ["an envelope of another version", { ESC_RETRY: carried().replace('"v":1', '"v":9') }],
    ["ESC_PARK without an envelope", { ESC_PARK: "k" }],
    ["ESC_DEAD without an envelope", { ESC_DEAD: "c" }],
    ["both", { ESC_RETRY: carried(), ESC_PARK: "k", ESC_DEAD: "c" }],
    ["an empty key", { ESC_RETRY: carried(), ESC_PARK: "" }],
    ["a key that is too long", { ESC_RETRY: carried(), ESC_PARK: "k".repeat(129) }],
    ["a code with spaces", { ESC_RETRY: carried(), ESC_DEAD: "not a code" }],
  ])("%s is buried with the reason, whole, and holds up nothing", async (_, properties) => {
    const good = incoming({ ESC_RETRY: carried(), ESC_DELIVER_AT: String(nowMs + 60_000) }, "good");
    const { waiting, dead, acked, refused } = await receive([incoming(properties as never, "bad"), good]);
    expect(waiting.length).toBe(1);
    expect(dead).toMatchObject([{ reason: { code: "invalid_envelope" } }]);
    expect(dead[0]!.message!.properties.get("color")).toBe("red");
    expect([acked, refused]).toEqual([["bad", "good"], ["invalid_envelope"]]);
  });

  it("with properties that leave little room keeps what counts of the envelope and drops its history", async () => {
    const { waiting } = await receive([
      incoming({ ESC_RETRY: carried(), ESC_PARK: "acct:1", big: "x".repeat(16_050) }),
    ]);
    expect(envelopeOf(waiting[0]!.properties)).toMatchObject({ attempt: 2, hop: 3, history: [] });
  });
});
