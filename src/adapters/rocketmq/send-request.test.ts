import fc from "fast-check";
import requests from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_pb.js";
import { describe, expect, it } from "vitest";
import { epochMs } from "../../message/time.ts";
import { createMessageIds, createSendEncoder } from "./send-request.ts";
import { aMessage } from "./testing.ts";

const nextId = createMessageIds(new Uint8Array(8));
const encode = createSendEncoder({ bornHost: "host-1", nextId });
const bornAtMs = 1_769_904_000_123;

const decoded = (...args: Parameters<typeof encode>) => {
  const { request, messageIds } = encode(...args);
  return { messageIds, messages: requests.SendMessageRequest.deserializeBinary(request).getMessagesList() };
};

describe("a send request, read by the generated classes", () => {
  it("carries every field of the message and our three properties", () => {
    const message = aMessage({
      tag: "tag-1",
      keys: ["k1", "k2"],
      properties: new Map([["colour", "grün"]]),
      body: Buffer.from([0, 255, 10, 13]),
      deliverAtMs: epochMs(1_769_900_000_001),
      attempt: 3,
    });
    const { messages, messageIds } = decoded("orders", [message], bornAtMs);
    const [read] = messages;
    const system = read!.getSystemProperties()!;
    expect(read!.getTopic()!.getName()).toBe("orders");
    expect(Buffer.from(read!.getBody_asU8())).toEqual(message.body);
    expect(new Map(read!.getUserPropertiesMap().toArray() as [string, string][])).toEqual(
      new Map([
        ["colour", "grün"],
        ["ESC_ID", message.id],
        ["ESC_ATTEMPT", "3"],
        ["ESC_DELIVER_AT", "1769900000001"],
      ]),
    );
    expect(system.getTag()).toBe("tag-1");
    expect(system.getKeysList()).toEqual(["k1", "k2"]);
    expect(system.getMessageId()).toBe(messageIds[0]);
    expect(system.getMessageType()).toBe(1);
    expect(system.getBodyEncoding()).toBe(1);
    expect(system.getBornHost()).toBe("host-1");
    expect(system.getBornTimestamp()!.getSeconds()).toBe(1_769_904_000);
    expect(system.getBornTimestamp()!.getNanos()).toBe(123_000_000);
    expect(system.hasMessageGroup()).toBe(false);
  });

  it("never asks the broker to delay", () => {
    const message = aMessage({ deliverAtMs: epochMs(bornAtMs + 3_600_000) });
    const [read] = decoded("orders", [message], bornAtMs).messages;
    expect(read!.getSystemProperties()!.hasDeliveryTimestamp()).toBe(false);
  });

  it("makes a message with a message group FIFO", () => {
    const [read] = decoded("orders", [aMessage({ messageGroup: "customer-7" })], bornAtMs).messages;
    expect(read!.getSystemProperties()!.getMessageType()).toBe(2);
    expect(read!.getSystemProperties()!.getMessageGroup()).toBe("customer-7");
  });

  it("has our own value when a user property has one of our names", () => {
    const message = aMessage({ properties: new Map([["ESC_ID", "forged"]]) });
    const [read] = decoded("orders", [message], bornAtMs).messages;
    expect(read!.getUserPropertiesMap().get("ESC_ID")).toBe(message.id);
  });

  it("keeps any text and any body, in any number of messages", () => {
    const text = fc.string({ unit: "binary", minLength: 1, maxLength: 30 });
    const one = fc.record({
      tag: text,
      keys: fc.array(text, { maxLength: 4 }),
      properties: fc.dictionary(text, text, { maxKeys: 5 }).map((entries) => new Map(Object.entries(entries))),
      body: fc.uint8Array({ minLength: 1, maxLength: 2_000 }).map((bytes) => Buffer.from(bytes)),
    });
    fc.assert(
      fc.property(fc.array(one, { minLength: 1, maxLength: 20 }), (overs) => {
        const messages = overs.map(aMessage);
        const read = decoded("t", messages, bornAtMs).messages;
        expect(read.length).toBe(messages.length);
        messages.forEach((message, index) => {
          const system = read[index]!.getSystemProperties()!;
          expect(system.getTag()).toBe(message.tag);
          expect(system.getKeysList()).toEqual(message.keys);
          expect(Buffer.from(read[index]!.getBody_asU8()).equals(message.body)).toBe(true);
          for (const [name, value] of message.properties) {
            expect(read[index]!.getUserPropertiesMap().get(name)).toBe(value);
          }
        });
      }),
      { numRuns: 25 },
    );
  });
});

describe("system message ids", () => {
  it("have RocketMQ's V1 form and are never drawn twice", () => {
    const ids = createMessageIds(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    const drawn = Array.from({ length: 1_000 }, (_, index) => ids(bornAtMs + index));
    expect(new Set(drawn).size).toBe(1_000);
    for (const id of drawn) expect(id).toMatch(/^010102030405060708[0-9A-F]{16}$/);
  });
});
