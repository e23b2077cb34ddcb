import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { BatchResult, EscapementClient, MessageInput } from "../sdk/client.ts";
import { EscapementBatchStoppedError } from "../sdk/client.ts";
import { errorAsJson, exitCode, exitCodeOf, QuietExit, UsageError } from "./exit-codes.ts";
import { type Line, lineBytesMax, readLines } from "./line-reader.ts";
import type { Output } from "./output.ts";
import { perSecond, progressLine } from "./progress.ts";
import { counted, duration, number, printable } from "./wording.ts";

/**
 * `schedule --file`: one message a line, any number of lines, in bounded memory. A bad line is reported with its
 * number and does not stop the others. Reports come in the order of the lines.
 */

export type FileOptions = {
  /** A path, or `-` for standard input. */
  readonly file: string;
  readonly batchSize: number | undefined;
  readonly concurrency: number | undefined;
  readonly json: boolean;
};

/** What a line came to, before or after it was sent. */
type LineError = { readonly code: string; readonly detail: string; readonly field?: string | undefined };

/** A line that has no report yet. */
type OpenLine = { readonly number: number; readonly endOffset: number; readonly problem?: LineError };

export const scheduleFile = async (client: EscapementClient, options: FileOptions, output: Output): Promise<void> => {
  const { input, totalBytes } = await openInput(options.file);
  const report = new FileReport(output, options.json, totalBytes);
  const interruption = new AbortController();
  const interrupt = (): void => interruption.abort(new QuietExit(exitCode.interrupted));
  process.once("SIGINT", interrupt);
  try {
    const batch = client.scheduleBatch(messagesOf(input, report), {
      signal: interruption.signal,
      ...(options.batchSize === undefined ? {} : { batchSize: options.batchSize }),
      ...(options.concurrency === undefined ? {} : { concurrency: options.concurrency }),
    });
    for await (const result of batch) report.sent(result);
  } catch (error) {
    report.stopped(error);
    throw new QuietExit(exitCodeOf(error));
  } finally {
    process.off("SIGINT", interrupt);
    input.destroy?.();
  }
  report.finished();
  if (report.rejected > 0) throw new QuietExit(exitCode.partlyRejected);
};

async function* messagesOf(input: AsyncIterable<Uint8Array>, report: FileReport): AsyncGenerator<MessageInput> {
  for await (const line of readLines(input)) {
    if (line.content.text?.trim() === "") continue;
    const parsed = parseLine(line.content);
    if ("problem" in parsed) report.read({ ...line, problem: parsed.problem });
    else {
      report.read(line);
      yield parsed.message;
    }
  }
}

/** A line as a message, or why it is none. Only its form is looked at; the server judges the fields. */
export const parseLine = (content: Line["content"]): { message: MessageInput } | { problem: LineError } => {
  if (content.problem === "line_too_long") {
    const detail = `The line is longer than ${number(lineBytesMax)} bytes; no message can be that large.`;
    return { problem: { code: "line_too_long", detail } };
  }
  if (content.text === undefined) {
    return {
      problem: { code: "invalid_utf8", detail: "The line is not UTF-8. Bodies that are not text go into bodyBase64." },
    };
  }
  let value: unknown;
  try {
    value = JSON.parse(content.text);
  } catch {
    return { problem: { code: "invalid_json", detail: "The line is not JSON. Each line must be one message, whole." } };
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return {
      problem: { code: "invalid_request", detail: 'The line is not an object like {"topic":…,"body":…,"delay":…}.' },
    };
  }
  return { message: value as MessageInput };
};

/** Puts the results of the sent lines and of the bad ones into the order of the file, counts, and prints. */
class FileReport {
  rejected = 0;
  #accepted = 0;
  #doneBytes = 0;
  #doneLines = 0;
  readonly #open: OpenLine[] = [];
  readonly #output: Output;
  readonly #json: boolean;
  readonly #totalBytes: number | undefined;
  readonly #beganMs: number;

  constructor(output: Output, json: boolean, totalBytes: number | undefined) {
    this.#output = output;
    this.#json = json;
    this.#totalBytes = totalBytes;
    this.#beganMs = output.monotonicMs();
  }

  read({ number, endOffset, problem }: OpenLine): void {
    this.#open.push({ number, endOffset, ...(problem === undefined ? {} : { problem }) });
    this.#reportBadLines();
  }

  sent({ message, error }: BatchResult): void {
    const line = this.#open.shift()!;
    if (error === undefined) {
      this.#accepted++;
      if (this.#json) this.#output.printJson({ line: line.number, message });
    } else {
      const { code, message: detail, field } = error;
      this.#reject(line, { code, detail, field });
    }
    this.#done(line);
    this.#reportBadLines();
  }

  finished(): void {
    this.#output.tell(this.#output.styleErr(this.rejected === 0 ? "green" : "yellow", this.#summary()));
  }

  stopped(error: unknown): void {
    const cause = error instanceof EscapementBatchStoppedError ? error.cause : error;
    const { styleErr } = this.#output;
    if (cause instanceof QuietExit) this.#output.tell(styleErr("yellow", "interrupted"));
    else {
      if (this.#json) this.#output.printJson(errorAsJson(error));
      this.#output.tell(`${styleErr(["red", "bold"], "error:")} ${printable(messageOf(cause))}`);
    }
    this.#output.tell(this.#summary());
    const next = this.#doneLines + 1;
    this.#output.tell(
      [
        `Lines before ${number(next)} have their results. Of the lines from ${number(next)} on, some may be scheduled already.`,
        `To go on: tail -n +${next} FILE | escapement schedule --file -`,
        `Lines that have a "key" are then still one message each; of the others, a few may be scheduled twice.`,
      ].join("\n"),
    );
  }

  /** A bad line has its turn when every line before it has its result. */
  #reportBadLines(): void {
    for (let line = this.#open[0]; line?.problem !== undefined; line = this.#open[0]) {
      this.#open.shift();
      this.#reject(line, line.problem);
      this.#done(line);
    }
  }

  #reject(line: OpenLine, error: LineError): void {
    this.rejected++;
    if (this.#json) {
      this.#output.printJson({ line: line.number, error });
      return;
    }
    const field = error.field === undefined ? "" : ` (${error.field})`;
    const text = `line ${line.number}: ${error.code}${field}: ${error.detail}`;
    this.#output.tell(this.#output.styleErr("red", printable(text)));
  }

  #done(line: OpenLine): void {
    this.#doneBytes = line.endOffset;
    this.#doneLines = line.number;
    this.#output.progress((columns) => progressLine(this.#progress(), columns));
  }

  #summary(): string {
    const progress = this.#progress();
    const rejected = this.rejected === 0 ? "" : `, ${number(this.rejected)} rejected`;
    return `${counted(this.#accepted, "message")} accepted${rejected}, in ${duration(progress.elapsedMs)} (${number(perSecond(progress))}/s)`;
  }

  #progress() {
    return {
      accepted: this.#accepted,
      rejected: this.rejected,
      doneBytes: this.#doneBytes,
      totalBytes: this.#totalBytes,
      elapsedMs: this.#output.monotonicMs() - this.#beganMs,
    };
  }
}

type Input = {
  readonly input: AsyncIterable<Uint8Array> & { destroy?(): void };
  readonly totalBytes: number | undefined;
};

const openInput = async (file: string): Promise<Input> => {
  if (file === "-") return { input: process.stdin, totalBytes: undefined };
  try {
    const about = await stat(file);
    if (about.isDirectory()) throw new UsageError(`${file} is a folder. Give a file with one message on each line.`);
    return { input: createReadStream(file), totalBytes: about.isFile() ? about.size : undefined };
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`Cannot read ${file}: ${messageOf(error)}`);
  }
};

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
