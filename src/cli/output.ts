import { styleText } from "node:util";
import { exitCode } from "./exit-codes.ts";

/**
 * The only file that prints, and the only one of the CLI that asks for the time. Results go to stdout, everything for
 * a person's eyes only goes to stderr, so that stdout can always be piped. Colours and the progress line appear only
 * on a terminal; NO_COLOR is respected.
 */

type Format = Parameters<typeof styleText>[0];

export type Style = (format: Format, text: string) => string;

/** Redrawn at most this often: often enough to look alive, seldom enough not to cost anything. */
const progressEveryMs = 100;

export class Output {
  #progressShown = false;
  #progressAtMs = Number.NEGATIVE_INFINITY;

  constructor() {
    // The reader of a pipe has left, for example `head`. There is nobody to tell.
    process.stdout.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(exitCode.outputClosed);
      throw error;
    });
  }

  /** A result. */
  print(text: string): void {
    this.clearProgress();
    process.stdout.write(`${text}\n`);
  }

  /** A result for a program: one line of JSON. */
  printJson(value: unknown): void {
    this.print(JSON.stringify(value));
  }

  /** Something for a person, beside the result. */
  tell(text: string): void {
    this.clearProgress();
    process.stderr.write(`${text}\n`);
  }

  /** Text as it is, for the help. */
  write(to: "out" | "err", text: string): void {
    (to === "out" ? process.stdout : process.stderr).write(text);
  }

  /** Shows where a long command stands, on a terminal; `render` is called only when it is time to draw. */
  progress(render: (columns: number) => string): void {
    if (!this.showsProgress || this.monotonicMs() - this.#progressAtMs < progressEveryMs) return;
    this.#progressAtMs = this.monotonicMs();
    this.#progressShown = true;
    process.stderr.write(`\r${render(this.#columns(process.stderr))}\u001b[K`);
  }

  clearProgress(): void {
    if (!this.#progressShown) return;
    this.#progressShown = false;
    process.stderr.write("\r\u001b[K");
  }

  get showsProgress(): boolean {
    return process.stderr.isTTY === true && process.env.TERM !== "dumb";
  }

  /** Colours for what goes to stdout. */
  readonly style: Style = (format, text) => styleText(format, text, { stream: process.stdout });

  /** Colours for what goes to stderr. */
  readonly styleErr: Style = (format, text) => styleText(format, text, { stream: process.stderr });

  get columns(): number {
    return this.#columns(process.stdout);
  }

  nowMs(): number {
    return Date.now();
  }

  monotonicMs(): number {
    return performance.now();
  }

  #columns(stream: NodeJS.WriteStream): number {
    // A stream that is no terminal has no columns, and some terminals say 0.
    return stream.columns || 100;
  }
}
