import fc from "fast-check";
import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import { describe, expect, it } from "vitest";
import { code } from "../../protocol/messaging-service.ts";
import { BrokerError } from "../broker-error.ts";
import { readSendRequest } from "./send-request.ts";
import { aMessage, bytes, instant, sendRequest } from "./testing/requests.ts";

const read = (...messages: ReturnType<typeof aMessage>[]) => readSendRequest(sendRequest(...messages), "10.0.0.9");

const refusal = (make: (message: ReturnType<typeof aMessage>) => void): number => {
  const message = aMessage();
  make(message);
  try {
    read(message);
  } catch (error) {
    if (error instanceof BrokerError) return error.status;
    throw error;
  }
  return code.ok;
};

const word = fc.string({ unit: fc.constantFrom("a", "Z", "7", "-", "ä", "漢", "🦊"), minLength: 1, maxLength: 12 });

describe("a message that is sent", () => {
  it("is what the generated classes wrote, and its properties stay the bytes they were", () => {
    fc.assert(
      fc.property(
        fc.dictionary(word, word, { maxKeys: 5 }),
        fc.array(word, { maxLength: 3 }),
        fc.uint8Array({ minLength: 1, maxLength: 300 }),
        fc.option(word),
        (properties, keys, body, tag) => {
          const message = aMessage("orders", Buffer.from(body));
          const system = message.getSystemProperties()!.setKeysList(keys);
          if (tag !== null) system.setTag(tag);
          for (const [name, value] of Object.entries(properties)) message.getUserPropertiesMap().set(name, value);
          const [found] = read(message);
          expect(found).toMatchObject({ topic: "orders", messageId: "ID1", type: "NORMAL", tag: tag ?? undefined });
          expect(found!.body).toEqual(Buffer.from(body));
          const again = definitions.Message.deserializeBinary(found!.userProperties);
          expect(again.getUserPropertiesMap().toObject()).toEqual(message.getUserPropertiesMap().toObject());
          expect(found!.systemProperties).toEqual(bytes(system));
        },
      ),
      { numRuns: 50 },
    );
  });

  it("keeps properties that do not stand side by side", () => {
    const one = bytes(propertiesOnly("a", "1"));
    const rest = bytes(aMessage());
    const two = bytes(propertiesOnly("b", "2"));
    const message = Buffer.concat([one, rest, two]);
    const request = Buffer.concat([Buffer.from([0x0a, message.length]), message]);
    const [found] = readSendRequest(request, "");
    expect(found!.userProperties).toEqual(Buffer.concat([one, two]));
  });

  it("has a type that follows from what it has", () => {
    const delayed = aMessage();
    delayed.getSystemProperties()!.setDeliveryTimestamp(instant(1_700_000_000, 123_000_000)).setMessageGroup("g");
    expect(read(delayed)[0]).toMatchObject({ type: "DELAY", deliverAtMs: 1_700_000_000_123, messageGroup: "g" });
    const fifo = aMessage();
    fifo.getSystemProperties()!.setMessageGroup("g");
    expect(read(fifo)[0]).toMatchObject({ type: "FIFO", messageGroup: "g", deliverAtMs: undefined });
    const half = aMessage();
    half.getSystemProperties()!.setMessageType(4);
    expect(read(half)[0]!.type).toBe("TRANSACTION");
  });

  it("gets the encoding and the host that a producer left out", () => {
    const message = aMessage();
    message.getSystemProperties()!.setBornHost("").setBodyEncoding(0);
    const completed = definitions.SystemProperties.deserializeBinary(read(message)[0]!.systemProperties);
    expect([completed.getBornHost(), completed.getBodyEncoding(), completed.getMessageId()]).toEqual([
      "10.0.0.9",
      1,
      "ID1",
    ]);
  });

  it("that was due before 1970 is due", () => {
    const message = aMessage();
    message.getSystemProperties()!.setDeliveryTimestamp(instant(-5, 0));
    expect(read(message)[0]!.deliverAtMs).toBe(0);
  });
});

const propertiesOnly = (name: string, value: string) => {
  const message = new definitions.Message();
  message.getUserPropertiesMap().set(name, value);
  return message;
};

describe("refused as by the real proxy", () => {
  const property = (name: string, value: string) => (message: ReturnType<typeof aMessage>) => {
    message.getUserPropertiesMap().set(name, value);
  };
  const system = (
    set: (system: NonNullable<ReturnType<ReturnType<typeof aMessage>["getSystemProperties"]>>) => void,
  ) => {
    return (message: ReturnType<typeof aMessage>) => set(message.getSystemProperties()!);
  };

  it.each<[string, number, (message: ReturnType<typeof aMessage>) => void]>([
    ["an empty body", code.messageBodyEmpty, (m) => m.setBody("")],
    ["a body over 4 MiB", code.messageBodyTooLarge, (m) => m.setBody(Buffer.alloc(4_194_305))],
    ["no message id", code.illegalMessageId, system((s) => s.setMessageId(" "))],
    ["a tag with |", code.illegalMessageTag, system((s) => s.setTag("a|b"))],
    ["a blank tag", code.illegalMessageTag, system((s) => s.setTag("  "))],
    ["a blank key", code.illegalMessageKey, system((s) => s.setKeysList(["ok", " "]))],
    ["a control character in a key", code.illegalMessageKey, system((s) => s.setKeysList(["a\u0001"]))],
    ["a message group of 64 bytes", code.illegalMessageGroup, system((s) => s.setMessageGroup("g".repeat(64)))],
    ["a reserved property", code.illegalMessagePropertyKey, property("UNIQ_KEY", "x")],
    ["a control character in a property's name", code.illegalMessagePropertyKey, property("a\u0002", "x")],
    ["a control character in a property's value", code.illegalMessagePropertyKey, property("a", "\n")],
    ["16 KiB of properties, tag and keys", code.messagePropertiesTooLarge, property("a", "x".repeat(16_384))],
    [
      "129 properties",
      code.messagePropertiesTooLarge,
      (m) => {
        for (let i = 0; i < 129; i++) m.getUserPropertiesMap().set(`p${i}`, "");
      },
    ],
    ["a lite topic", code.unsupported, system((s) => s.setLiteTopic("l"))],
    ["a priority", code.unsupported, system((s) => s.setPriority(3))],
    [
      "a delayed transaction",
      code.messagePropertyConflictWithType,
      system((s) => s.setMessageType(4).setDeliveryTimestamp(instant(1_700_000_000, 0))),
    ],
  ])("%s", (_, status, make) => {
    expect(refusal(make)).toBe(status);
  });

  it("and what is just within is not", () => {
    expect(refusal((m) => m.setBody(Buffer.alloc(4_194_304)))).toBe(code.ok);
    expect(refusal((m) => m.getSystemProperties()!.setMessageGroup("g".repeat(63)))).toBe(code.ok);
    expect(refusal((m) => m.getUserPropertiesMap().set("a", "x".repeat(16_383)))).toBe(code.ok);
  });

  it("an empty call, two topics in one, two types in one", () => {
    expect(() => readSendRequest(Buffer.alloc(0), "")).toThrow(
      expect.objectContaining({ status: code.messageCorrupted }),
    );
    expect(() => read(aMessage("a"), aMessage("b"))).toThrow(
      expect.objectContaining({ status: code.messageCorrupted }),
    );
    const fifo = aMessage();
    fifo.getSystemProperties()!.setMessageGroup("g");
    expect(() => read(aMessage(), fifo)).toThrow(expect.objectContaining({ status: code.badRequest }));
  });

  it("text that is not UTF-8, which consumers could not read", () => {
    const message = bytes(aMessage());
    const at = message.indexOf("here");
    message[at] = 0xff;
    const request = Buffer.concat([Buffer.from([0x0a, message.length]), message]);
    expect(() => readSendRequest(request, "")).toThrow(expect.objectContaining({ status: code.badRequest }));
  });
});
