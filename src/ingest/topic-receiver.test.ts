import { describe, expect, it } from "vitest";
import { placeInBay } from "../message/bay.ts";
import { EscapementError } from "../message/errors.ts";
import { epochMs } from "../message/time.ts";
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
  const world = { refuses: new Set<string>(), bugs: new Set<string>(), monotonicMs: 0 };
  const receiver = new TopicReceiver({
    source: {
      receive: async () => {
        seen.received++;
        return batches.shift() ?? [];
      },
      ack: async (messages) => void seen.acked.push(...messages.map((message) => message.brokerMessageId)),
      close: async () => {},
    },
    store: { shardCount: 4 } as never,
    accept: async ({ message }) => {
      const name = message.body.toString();
      if (world.refuses.has(name)) throw new EscapementError("store_unavailable", "away");
      if (world.bugs.has(name)) throw new TypeError("a bug");
      seen.stored.push(name);
      return { outcome: "scheduled", state: "scheduled", deliverAtMs: message.deliverAtMs, attempt: 0 };
    },
    parking: { placeFor: async (_key, nowMs) => placeInBay(7, nowMs) },
    clock: { nowMs: () => epochMs(1_000), monotonicMs: () => world.monotonicMs },
    random: { float: () => 0.5, bytes: (target) => target.fill(7) },
    log: silentLog,
    tenant: "default",
    ownTopics: new Set(),
    counted: { accepted: () => {}, refused: () => {} },
    paused: () => false,
  });
  return { receiver, seen, world, run: () => receiver.runOnce(new AbortController().signal) };
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
