/**
 * Splits bytes into lines, with bounded memory: a line that is too long is skipped to its end and reported as such.
 * Lines end with LF or CRLF; a byte order mark at the start is dropped; the last line needs no end.
 */

export type Line = {
  /** The first line of a file is 1. */
  readonly number: number;
  /** Bytes of the input up to and including this line. */
  readonly endOffset: number;
  readonly content:
    | { readonly text: string; readonly problem?: undefined }
    | { readonly text?: undefined; readonly problem: "line_too_long" | "invalid_utf8" };
};

/** A body of 4,000,000 bytes in base64 is 5.4 MB; what is longer cannot be accepted by any server. */
export const lineBytesMax = 8 * 1024 * 1024;

const lineFeed = 10;

export async function* readLines(input: AsyncIterable<Uint8Array>, bytesMax = lineBytesMax): AsyncGenerator<Line> {
  let parts: Uint8Array[] = [];
  let partBytes = 0;
  let offset = 0;
  let number = 0;

  const keep = (part: Uint8Array): void => {
    partBytes += part.length;
    if (partBytes > bytesMax) parts = [];
    else parts.push(part);
  };

  const finish = (): Line => {
    number++;
    const content = partBytes > bytesMax ? ({ problem: "line_too_long" } as const) : decode(parts, number === 1);
    parts = [];
    partBytes = 0;
    return { number, endOffset: offset, content };
  };

  for await (const chunk of input) {
    let from = 0;
    for (let end = chunk.indexOf(lineFeed); end !== -1; end = chunk.indexOf(lineFeed, from)) {
      keep(chunk.subarray(from, end));
      offset += end + 1 - from;
      from = end + 1;
      yield finish();
    }
    if (from < chunk.length) {
      // A copy: the chunk may be large, and of it only this tail is still needed.
      keep(new Uint8Array(chunk.subarray(from)));
      offset += chunk.length - from;
    }
  }
  if (partBytes > 0) yield finish();
}

const decode = (parts: readonly Uint8Array[], first: boolean): Line["content"] => {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: !first }).decode(Buffer.concat(parts));
    return { text: text.endsWith("\r") ? text.slice(0, -1) : text };
  } catch {
    return { problem: "invalid_utf8" };
  }
};
