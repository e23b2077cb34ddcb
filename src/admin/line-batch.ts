import type { Readable } from "node:stream";
import { EscapementError } from "../message/errors.ts";
import type { BatchItemReply } from "../wire/http.ts";
import { problemOf } from "../wire/problem.ts";
import { parseJson, type SafeParse } from "./json-text.ts";
import { type Line, LineCutter } from "./lines.ts";
import type { Patience } from "./patience.ts";

/**
 * NDJSON in, NDJSON out: a line of the request becomes a line of the reply, in order. Memory is bounded by one chunk
 * of the network, one unfinished line and one call's results, because the next chunk is read only when the results of
 * the last one were taken: a peer that does not read its results is not read from either.
 *
 * What is complete is worked on at once, however little it is, so that a peer may send one line and wait for its
 * result. A line that cannot be read is answered with its error and the rest goes on. When the upload breaks off, the
 * lines that were complete have been answered and an unfinished last line was never looked at.
 */
export type LineBatchOptions = {
  /** One result per value, in order. May throw: then it is the answer for each of them. */
  readonly schedule: (values: readonly unknown[]) => Promise<BatchItemReply[]>;
  readonly errorOf: (error: unknown) => EscapementError;
  readonly safeParse: SafeParse;
  readonly patience: Patience;
  readonly lineBytesMax: number;
  readonly linesPerCall: number;
};

export async function* answerLines(stream: Readable, options: LineBatchOptions): AsyncGenerator<string> {
  const cutter = new LineCutter(options.lineBytesMax);
  // The peer keeps us waiting twice: while a line is unfinished, and while results are not taken.
  const wait = options.patience.begin(() => stream.destroy());
  let index = 0;
  async function* answers(lines: readonly Line[]): AsyncGenerator<string> {
    for (let from = 0; from < lines.length; from += options.linesPerCall) {
      const some = lines.slice(from, from + options.linesPerCall);
      wait.pause();
      const text = await answerSome(some, index, options);
      wait.resume();
      yield text;
      index += some.length;
    }
  }
  try {
    for await (const chunk of stream) {
      const lines = cutter.push(chunk as Buffer);
      if (lines.length > 0) yield* answers(lines);
    }
    yield* answers(cutter.end());
  } finally {
    wait.end();
  }
}

const answerSome = async (lines: readonly Line[], firstIndex: number, options: LineBatchOptions): Promise<string> => {
  const replies: BatchItemReply[] = new Array(lines.length);
  const values: unknown[] = [];
  const places: number[] = [];
  lines.forEach((line, i) => {
    try {
      if (line === "too_long") {
        throw new EscapementError("request_too_large", `The line is longer than ${options.lineBytesMax} bytes.`);
      }
      values.push(parseJson(line, options.safeParse));
      places.push(i);
    } catch (error) {
      replies[i] = { index: firstIndex + i, error: problemOf(options.errorOf(error)) };
    }
  });
  if (values.length > 0) {
    const results = await scheduleAll(values, options);
    results.forEach((result, i) => {
      const place = places[i]!;
      replies[place] = { ...result, index: firstIndex + place };
    });
  }
  let text = "";
  for (const reply of replies) text += `${JSON.stringify(reply)}\n`;
  return text;
};

const scheduleAll = async (values: readonly unknown[], options: LineBatchOptions): Promise<BatchItemReply[]> => {
  try {
    return await options.schedule(values);
  } catch (error) {
    const problem = problemOf(options.errorOf(error));
    return values.map((_, index) => ({ index, error: problem }));
  }
};
