import fc from "fast-check";
import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import { describe, expect, it } from "vitest";
import { createProtobufWriter, readProtobuf } from "./protobuf.ts";

// `SystemProperties` has text, repeated text, numbers and nested messages: the generated class is the other opinion.

const anyText = fc.string({ unit: "binary", maxLength: 400 });
const anyNumber = fc.oneof(fc.nat(), fc.constantFrom(0, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 40, 2 ** 53 - 1));

describe("what the protobuf writer writes", () => {
  it("is read alike by the generated classes", () => {
    fc.assert(
      fc.property(
        anyText,
        fc.array(anyText, { maxLength: 5 }),
        anyNumber,
        fc.nat(999_999_999),
        (tag, keys, seconds, nanos) => {
          const writer = createProtobufWriter(16); // small, so that it has to grow
          writer.text(1, tag);
          for (const key of keys) writer.text(2, key);
          const born = writer.begin(7);
          writer.number(1, seconds);
          writer.number(2, nanos);
          writer.end(born);
          const read = definitions.SystemProperties.deserializeBinary(writer.take());
          expect(read.getTag()).toBe(tag);
          expect(read.getKeysList()).toEqual(keys.filter((key) => key !== ""));
          expect(read.getBornTimestamp()!.getSeconds()).toBe(seconds);
          expect(read.getBornTimestamp()!.getNanos()).toBe(nanos);
        },
      ),
    );
  });

  it("keeps bytes as they are, up to a full message body", () => {
    for (const length of [0, 1, 127, 128, 16_384, 4_194_304]) {
      const body = Buffer.alloc(length, 0xf1);
      const writer = createProtobufWriter(16);
      const nested = writer.begin(3);
      writer.text(1, "before");
      writer.end(nested);
      writer.bytes(4, body);
      const read = definitions.Message.deserializeBinary(writer.take());
      expect(Buffer.from(read.getBody_asU8()).equals(body)).toBe(true);
      expect(read.getSystemProperties()!.getTag()).toBe("before");
    }
  });

  it("starts afresh after a reset and after a take", () => {
    const writer = createProtobufWriter();
    writer.text(1, "half-done");
    writer.reset();
    writer.text(1, "a");
    const first = writer.take();
    writer.text(1, "b");
    expect(readProtobuf(writer.take()).next()).toBe(true);
    expect(first.toString("hex")).toBe("0a0161");
  });
});

describe("the protobuf reader", () => {
  it("reads what the generated classes write and skips what it does not know", () => {
    fc.assert(
      fc.property(anyText, anyText, anyNumber, (tag, group, offset) => {
        const written = new definitions.SystemProperties();
        written.setTag(tag).setQueueOffset(offset).setMessageGroup(group).setDeliveryAttempt(7);
        const reader = readProtobuf(Buffer.from(written.serializeBinary()));
        const seen = { tag: "", group: "", attempt: 0 };
        while (reader.next()) {
          if (reader.field === 1) seen.tag = reader.text();
          else if (reader.field === 17) seen.group = reader.text();
          else if (reader.field === 16) seen.attempt = reader.number();
        }
        expect(seen).toEqual({ tag, group, attempt: 7 });
      }),
    );
  });

  it("reads a repeated number whether it is packed or not", () => {
    for (const hex of ["2a03010203", "280128022803"]) {
      const numbers: number[] = [];
      const reader = readProtobuf(Buffer.from(hex, "hex"));
      while (reader.next()) reader.numbers((value) => numbers.push(value));
      expect(numbers).toEqual([1, 2, 3]);
    }
  });

  it("skips all wire types that protobuf has", () => {
    // field 1 fixed64, field 2 fixed32, field 3 varint, field 4 bytes, field 5 text "ok"
    const reader = readProtobuf(
      Buffer.from("090102030405060708" + "1501020304" + "18ff01" + "2202aabb" + "2a026f6b", "hex"),
    );
    let text = "";
    while (reader.next()) if (reader.field === 5) text = reader.text();
    expect(text).toBe("ok");
  });

  it("throws a RangeError on anything broken, whatever it is", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const walk = (input: Buffer, depth: number): void => {
          const reader = readProtobuf(input);
          while (reader.next()) if (reader.field === 1 && depth < 3) walk(reader.bytes(), depth + 1);
        };
        try {
          walk(Buffer.from(bytes), 0);
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
      { numRuns: 1_000 },
    );
  });
});
