import type { Log } from "./log.ts";

/**
 * What is wrong at the moment, by source. Rooms report, probes read. Reporting the same trouble again is silent; a
 * change is logged once.
 */
export class Health {
  readonly #problems = new Map<string, { readonly code: string; readonly detail: string }>();
  readonly #log: Log;

  constructor(log: Log) {
    this.#log = log;
  }

  /** `detail` undefined means that all is well with this source. */
  report(source: string, code: string, detail: string | undefined): void {
    const before = this.#problems.get(source);
    if (detail === undefined) {
      if (this.#problems.delete(source)) this.#log.info({ source, code: before?.code }, "problem is over");
      return;
    }
    this.#problems.set(source, { code, detail });
    if (before?.code !== code) this.#log.error({ source, code, detail }, "problem");
  }

  problem(source: string): { readonly code: string; readonly detail: string } | undefined {
    return this.#problems.get(source);
  }

  get problems(): readonly { readonly code: string; readonly detail: string }[] {
    return [...this.#problems.values()];
  }
}
