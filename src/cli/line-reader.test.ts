import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Line, readLines } from "./line-reader.ts";

const read = async (chunks: readonly Uint8Array[], bytesMax?: number): Promise<Line[]> => {
  async function* input(): AsyncGenerator<Uint8Array> {
    yield* chunks;
  }
  const lines: Line[] = [];
  for await (const line of readLines(input(), bytesMax)) lines.push(line);
  return lines;
};

const texts = (lines: readonly Line[]) => lines.map(({ content }) => content.text ?? content.problem);

describe("lines", () => {
  it("are the same however the bytes are cut", async () => {
    const line = fc.string({ unit: "grapheme", maxLength: 12 }).map((text) => text.replace(/[\r\n\ufeff]/g, "_"));
    await fc.assert(
      fc.asyncProperty(fc.array(line, { maxLength: 8 }), fc.array(fc.nat(5)), async (lines, cuts) => {
        const bytes = Buffer.from(lines.map((text) => `${text}\n`).join(""));
        const chunks: Uint8Array[] = [];
        let from = 0;
        for (const cut of cuts) {
          chunks.push(bytes.subarray(from, from + cut));
          from += cut;
        }
        chunks.push(bytes.subarray(from));
        const result = await read(chunks);
        expect(texts(result)).toEqual(lines);
        expect(result.map((item) => item.number)).toEqual(lines.map((_, i) => i + 1));
        expect(result.at(-1)?.endOffset ?? 0).toBe(bytes.length);
      }),
    );
  });

  it("may end with CRLF, begin with a byte order mark, and the last one needs no end", async () => {
    expect(texts(await read([Buffer.from("\ufeffa\r\n\r\nb")]))).toEqual(["a", "", "b"]);
    expect(await read([])).toEqual([]);
  });

  it("that are too long are skipped to their end, wherever they are cut", async () => {
    const parts = ["12345\n", "123", "456\n", "1", "2", "3", "4", "5", "\n", "123456"].map((part) => Buffer.from(part));
    expect(texts(await read(parts, 5))).toEqual(["12345", "line_too_long", "12345", "line_too_long"]);
  });

  it("that are not UTF-8 are told apart, and the next one is read", async () => {
    expect(texts(await read([Buffer.from([0x61, 0xff, 0x0a, 0x62, 0x0a])]))).toEqual(["invalid_utf8", "b"]);
  });
});
