import { describe, expect, it } from "vitest";
import type { SendResult } from "../dispatch/sink.port.ts";
import { type MessageId, timeOrderedId } from "../message/id.ts";
import type { DelayedMessage } from "../message/message.ts";
import { type Log, silentLog } from "../runtime/log.ts";
import { cancelsInVainSaid } from "./cancels-in-vain.ts";
import type { OutboxRow } from "./outbox.port.ts";
import { createRowSender } from "./row-sender.ts";

let next = 1;
const row = (over: Partial<OutboxRow> = {}): OutboxRow => ({
  row: next++,
  id: timeOrderedId(1, new Uint8Array(10), next) as MessageId,
  kind: "send",
  topic: "orders",
  lane: undefined,
  attempts: 0,
  dueAtMs: undefined,
  createdAtMs: 5,
  head: {},
  body: Buffer.from("x"),
  ...over,
});

const rig = (answer: (message: DelayedMessage) => boolean = () => true) => {
  const calls: { topic: string; messages: readonly DelayedMessage[] }[] = [];
  const canceled: [string, string | undefined][] = [];
  const send = createRowSender({
    ingestTopic: "ESC_INGEST",
    delayServer: {
      async cancel(key, group) {
        if (key === "down") throw new Error("no answer");
        canceled.push([key, group]);
        return "canceled";
      },
    },
    sink: {
      async send(topic, messages) {
        calls.push({ topic, messages });
        return messages.map(
          (message): SendResult =>
            answer(message)
              ? { ok: true, brokerMessageId: "b" }
              : { ok: false, failure: { class: "transient", code: "c", detail: "d" } },
        );
      },
      close: async () => {},
    },
  });
  return { send, calls, canceled };
};

describe("rows are sent", () => {
  it("in one call for a topic, within the sink's limits, messages with a group alone", async () => {
    const { send, calls } = rig();
    const many = Array.from({ length: 130 }, () => row());
    const large = [1, 2].map(() => row({ topic: "large", body: Buffer.alloc(2_000_000) }));
    const grouped = [1, 2].map((lane) => row({ topic: "fifo", lane, head: { messageGroup: `g${lane}` } }));
    await send([...many, ...large, ...grouped]);
    expect(calls.map(({ topic, messages }) => [topic, messages.length])).toEqual([
      ["orders", 128],
      ["orders", 2],
      ["large", 1],
      ["large", 1],
      ["fifo", 1],
      ["fifo", 1],
    ]);
  });

  it("to the ingest topic when they are delayed, with what the delay server needs to know", async () => {
    const { send, calls } = rig();
    const head = { key: "k", messageGroup: "g", tag: "t", expireAfter: "60000", properties: [["a", "b"]] as const };
    await send([row({ dueAtMs: 99, head })]);
    const [{ topic, messages }] = calls as [(typeof calls)[0]];
    expect(topic).toBe("ESC_INGEST");
    expect(Object.fromEntries(messages[0]!.properties)).toEqual({
      a: "b",
      ESC_TOPIC: "orders",
      ESC_DELIVER_AT: "99",
      ESC_KEY: "k",
      ESC_MESSAGE_GROUP: "g",
      ESC_EXPIRE_AFTER: "60000",
    });
    expect(messages[0]).toMatchObject({ tag: "t" });
    expect(messages[0]).not.toHaveProperty("messageGroup");
  });

  it("in the order of their lane, and a lane stops at its first failure", async () => {
    const { send, calls } = rig(({ body }) => body.toString() !== "2");
    const lane = ["1", "2", "3"].map((body) => row({ lane: 4, body: Buffer.from(body) }));
    const outcomes = await send([lane[2]!, lane[1]!, lane[0]!, row({ lane: 5 })]);
    expect(outcomes.map((one) => [one.row.lane, one.row.body.toString(), one.ok])).toEqual([
      [4, "1", true],
      [5, "x", true],
      [4, "2", false],
      [4, "3", "held"],
    ]);
    expect(calls).toHaveLength(2);
  });

  it("to the delay server when they are cancels; no answer is a reason to try again", async () => {
    const { send, canceled } = rig();
    const outcomes = await send([
      row({ kind: "cancel", head: { key: "k", messageGroup: "g" } }),
      row({ kind: "cancel", head: { key: "down" } }),
    ]);
    expect(canceled).toEqual([["k", "g"]]);
    expect(outcomes.map(({ ok }) => ok)).toEqual([true, false]);
    expect(outcomes[1]).toMatchObject({ class: "transient", code: "delay_server_failed" });
  });
});

describe("a cancel where no delay server is known", () => {
  it("waits, and what to do is said once a minute", async () => {
    let nowMs = 0;
    const said: string[] = [];
    const log = { ...silentLog, error: (_: object, text: string) => said.push(text) } as unknown as Log;
    const clock = { monotonicMs: () => nowMs };
    const sink = { send: async () => [], close: async () => {} };
    const cancelsInVain = cancelsInVainSaid({ clock, log });
    const send = createRowSender({ sink, ingestTopic: "ESC_INGEST", delayServer: undefined, cancelsInVain });
    const cancels = () =>
      send([row({ kind: "cancel", head: { key: "k" } }), row({ kind: "cancel", head: { key: "l" } })]);
    for (const outcome of await cancels()) expect(outcome).toMatchObject({ ok: false, code: "delay_server_missing" });
    nowMs = 59_999;
    await cancels();
    expect(said).toEqual([expect.stringContaining("escapement: { url }")]);
    nowMs = 60_000;
    await cancels();
    expect(said).toHaveLength(2);
  });
});
