import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeRemoting, encodeRemoting } from "./remoting-frame.ts";

const reply = (header: object, body = ""): Buffer => {
  const text = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeInt32BE(4 + text.length + Buffer.byteLength(body), 0);
  prefix.writeInt32BE(text.length, 4);
  return Buffer.concat([prefix, text, Buffer.from(body)]);
};

describe("a remoting frame", () => {
  it("is laid out as the broker reads it", () => {
    const frame = encodeRemoting({ code: 17, fields: { topic: "orders" }, body: Buffer.from("xyz") }, 42);
    expect(frame.readInt32BE(0)).toBe(frame.length - 4);
    const headerBytes = frame.readInt32BE(4);
    expect(JSON.parse(frame.toString("utf8", 8, 8 + headerBytes))).toMatchObject({
      code: 17,
      opaque: 42,
      flag: 0,
      extFields: { topic: "orders" },
    });
    expect(frame.toString("utf8", 8 + headerBytes)).toBe("xyz");
  });

  it("is read back whole, however it was cut on the way", () => {
    const whole = reply({ code: 0, opaque: 1 }, '{"a":1}');
    for (let length = 0; length < whole.length; length++) {
      expect(decodeRemoting(whole.subarray(0, length))).toBeUndefined();
    }
    expect(decodeRemoting(whole)).toMatchObject({ code: 0, opaque: 1, remark: "" });
    expect(decodeRemoting(Buffer.concat([whole, Buffer.from("next")]))!.body.toString()).toBe('{"a":1}');
  });

  it("carries the broker's remark", () => {
    expect(decodeRemoting(reply({ code: 17, opaque: 1, remark: "No topic" }))).toMatchObject({
      code: 17,
      remark: "No topic",
    });
  });

  it("is refused when something else answers", () => {
    expect(() => decodeRemoting(Buffer.from("HTTP/1.1 400 Bad Request\r\n"))).toThrow(RangeError);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        try {
          decodeRemoting(Buffer.from(bytes));
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
    );
  });
});
