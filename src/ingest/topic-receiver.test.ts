import { describe, expect, it } from "vitest";
import { envelopeOf } from "../dead/testing/dead-world.ts";
import type { DelayStore } from "../delay/delay-store.port.ts";
import { placeInBay } from "../message/bay.ts";
import { EscapementError } from "../message/errors.ts";
import { epochMs } from "../message/time.ts";
import { encodeEnvelope } from "../retry/envelope-codec.ts";
import { silentLog } from "../runtime/log.ts";
import { TopicReceiver } from "./topic-receiver.ts";
import type { IncomingMessage } from "./topic-source.port.ts";

const incoming = (name: string): IncomingMessage => ({
  brokerMessageId: name,
  bornHost: "here",
  bornAtMs: epochMs(1),
  topic: "ESC_INGEST",
  keys: [],
  properties: new Map([
    ["ESC_TOPIC", "orders"],
    ["ESC_DELAY", "1000"],
  ]),
  body: Buffer.from(name),
  deliveryAttempt: 1,
  receipt: name,
});

const start = (batches: IncomingMessage[][]) => {
  const seen = { received: 0, stored: [] as string[], acked: [] as string[] };
  const world = { refuses: new Set<string>(), bugs: new Set<string>(), monotonicMs: 0, deadIsFull: false };
  const buried: string[] = [];
  const told: [string, boolean][] = [];
  const bury: DelayStore["bury"] = async (_shard, items) => {
    if (world.deadIsFull) throw new EscapementError("store_full", "no room among the dead");
    for (const { message } of items) buried.push(message.body.toString());
  };
  const receiver = new TopicReceiver({
    source: {
      receive: async () => {
        seen.received++;
        return batches.shift() ?? [];
      },
      ack: async (messages) => void seen.acked.push(...messages.map((message) => message.brokerMessageId)),
      close: async () => {},
    },
    store: { shardCount: 4, bury } as never,
    accept: async ({ message }) => {
      const name = message.body.toString();
      if (world.refuses.has(name)) throw new EscapementError("store_unavailable", "away");
      if (world.bugs.has(name)) throw new TypeError("a bug");
      seen.stored.push(name);
      return { outcome: "scheduled", state: "scheduled", deliverAtMs: message.deliverAtMs, attempt: 0 };
    },
    parking: { placeFor: async (_key, nowMs) => placeInBay(7, nowMs) },
    clock: { nowMs: () => epochMs(1_800_000_000_000), monotonicMs: () => world.monotonicMs },
    random: { float: () => 0.5, bytes: (target) => target.fill(7) },
    log: silentLog,
    tenant: "default",
    ownTopics: new Set(),
    counted: { accepted: () => {}, refused: () => {} },
    paused: () => false,
    redrives: { failed: (redrive, isDead) => void told.push([redrive, isDead]), succeeded: () => {} },
  });
  return { receiver, seen, buried, told, world, run: () => receiver.runOnce(new AbortController().signal) };
};

describe("an ingest message that the store did not take", () => {
  it("is tried again before anything new is fetched, and only then acknowledged", async () => {
    const { run, seen, world } = start([[incoming("a"), incoming("b")], [incoming("c")]]);
    world.refuses.add("b");
    await expect(run()).rejects.toThrow("away");
    await expect(run()).rejects.toThrow("away");
    expect(seen).toEqual({ received: 1, stored: ["a"], acked: ["a"] });
    world.refuses.clear();
    await run();
    await run();
    expect(seen).toEqual({ received: 2, stored: ["a", "b", "c"], acked: ["a", "b", "c"] });
  });

  it("is left to the broker once that may have given it to somebody else", async () => {
    const { run, seen, world } = start([[incoming("a")], [incoming("b")]]);
    world.refuses.add("a");
    await expect(run()).rejects.toThrow("away");
    world.monotonicMs = 19_999;
    await expect(run()).rejects.toThrow("away");
    world.monotonicMs = 20_000;
    await run();
    expect(seen).toEqual({ received: 2, stored: ["b"], acked: ["b"] });
  });

  it("is not held when the reason is a bug, which would keep all others waiting", async () => {
    const { run, seen, world } = start([[incoming("a"), incoming("b")], [incoming("c")]]);
    world.bugs.add("a");
    await expect(run()).rejects.toThrow("a bug");
    await run();
    expect(seen).toEqual({ received: 2, stored: ["b", "c"], acked: ["b", "c"] });
  });
});

describe("RT-23: an ingest message that belongs among the dead, while these take nothing", () => {
  it("is not acknowledged until it is kept there, and holds nothing else up", async () => {
    const bad = { ...incoming("bad"), properties: new Map([["ESC_DELAY", "1000"]]) };
    const { run, seen, buried, world } = start([[bad, incoming("good")]]);
    world.deadIsFull = true;
    await expect(run()).rejects.toThrow("no room among the dead");
    await expect(run()).rejects.toThrow("no room among the dead");
    expect([seen.acked, seen.stored, buried]).toEqual([["good"], ["good"], []]);
    world.deadIsFull = false;
    await run();
    expect([seen.acked, buried]).toEqual([["good", "bad"], ["bad"]]);
  });
});

describe("a hand-over of what was brought back from the dead", () => {
  it("is told as a failure once it is durable; one that was only deferred is not", async () => {
    const handOver = (name: string, attempt: number, more: [string, string][]): IncomingMessage => {
      const envelope = { ...envelopeOf(1), originId: name, attempt, crashes: 0, redrive: `job.0.${attempt}` };
      const properties: [string, string][] = [
        ["ESC_TOPIC", "ESC_RETRY_billing"],
        ["ESC_RETRY", encodeEnvelope(envelope)!],
      ];
      return { ...incoming(name), properties: new Map([...properties, ...more]) };
    };
    const soon: [string, string][] = [["ESC_DELAY", "1000"]];
    const { run, told, world } = start([
      [handOver("a", 1, soon), handOver("b", 0, soon), handOver("c", 2, [["ESC_DEAD", "age_exhausted"]])],
    ]);
    world.refuses.add("a");
    await expect(run()).rejects.toThrow("away");
    expect(told).toEqual([["job.0.2", true]]);
    world.refuses.clear();
    await run();
    expect(told).toEqual([
      ["job.0.2", true],
      ["job.0.1", false],
    ]);
  });
});
