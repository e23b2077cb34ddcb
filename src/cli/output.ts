import { styleText } from "node:util";
import { exitCode } from "./exit-codes.ts";

/**
 * The only file that prints, and the only one of the CLI that asks for the time. Results go to stdout, everything for
 * a person's eyes only goes to stderr, so that stdout can always be piped. Colours and the progress line appear only
 * on a terminal; NO_COLOR is respected.
 */

type Format = Parameters<typeof styleText>[0];

/** A terminal, or a file or pipe that has no width. */
type Stream = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };

export type Style = (format: Format, text: string) => string;

/** Redrawn at most this often: often enough to look alive, seldom enough not to cost anything. */
const progressEveryMs = 100;

/** Where a terminal does not tell its width, or says 0 as some do. */
const columnsDefault = 80;

export class Output {
  #progressShown = false;
  #progressAtMs = Number.NEGATIVE_INFINITY;

  readonly #out: Stream;
  readonly #err: Stream;

  constructor(out: Stream = process.stdout, err: Stream = process.stderr) {
    this.#out = out;
    this.#err = err;
    // The reader of a pipe has left, for example `head`. There is nobody to tell.
    out.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(exitCode.outputClosed);
      throw error;
    });
  }

  /** A result. */
  print(text: string): void {
    this.clearProgress();
    this.#out.write(`${text}\n`);
  }

  /** A result for a program: one line of JSON. */
  printJson(value: unknown): void {
    this.print(JSON.stringify(value));
  }

  /** Something for a person, beside the result. */
  tell(text: string): void {
    this.clearProgress();
    this.#err.write(`${text}\n`);
  }

  /** Text as it is, for the help. */
  write(to: "out" | "err", text: string): void {
    (to === "out" ? this.#out : this.#err).write(text);
  }

  /** Shows where a long command stands, on a terminal; `render` is called only when it is time to draw. */
  progress(render: (columns: number) => string): void {
    if (!this.showsProgress || this.monotonicMs() - this.#progressAtMs < progressEveryMs) return;
    this.#progressAtMs = this.monotonicMs();
    this.#progressShown = true;
    this.#err.write(`\r${render(this.#err.columns || columnsDefault)}\u001b[K`);
  }

  clearProgress(): void {
    if (!this.#progressShown) return;
    this.#progressShown = false;
    this.#err.write("\r\u001b[K");
  }

  get showsProgress(): boolean {
    return this.#err.isTTY === true && process.env.TERM !== "dumb";
  }

  /** Colours for what goes to stdout. */
  readonly style: Style = (format, text) => styleText(format, text, { stream: this.#out });

  /** Colours for what goes to stderr. */
  readonly styleErr: Style = (format, text) => styleText(format, text, { stream: this.#err });

  nowMs(): number {
    return Date.now();
  }

  monotonicMs(): number {
    return performance.now();
  }
}
