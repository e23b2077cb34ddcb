import type { DocumentStore } from "../documents/document-store.port.ts";
import { day, durationMs } from "../message/time.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { auditedAtMs } from "./audit.ts";
import { kinds } from "./redrive-documents.ts";

/**
 * Removes audit entries that are kept no longer. Nobody can ask for that, and no entry goes for any other reason.
 *
 * Once an hour, a page at a time, in the process that owns the first shard.
 */
export const auditKept = {
  /** In milliseconds. 366 d, a year: long enough to ask who did that last season. */
  ms: durationMs(366 * day),
  /** The newest 100,000, some 30 MB: eleven an hour for a year, which no people write and a program in a circle might. */
  entriesMax: 100_000,
} as const;

export type AuditKeepingOptions = {
  readonly documents: DocumentStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly owned: () => readonly number[];
};

const passEveryMs = 3_600_000;
const askEveryMs = 60_000;
const pageEntries = 200;
const pageEveryMs = 50;

export class AuditKeeping {
  readonly #options: AuditKeepingOptions;
  #after = "";
  #passed = 0;
  #removed = 0;

  constructor(options: AuditKeepingOptions) {
    this.#options = options;
  }

  /** One page, the newest first. */
  async runOnce(): Promise<number> {
    const { documents, clock, owned } = this.#options;
    if (!owned().includes(0)) return this.#endPass(askEveryMs);
    const page = await documents.list(kinds.audit, { after: this.#after, limit: pageEntries });
    const fromMs = clock.nowMs() - auditKept.ms;
    const over = page.filter(({ name }, i) => auditedAtMs(name) < fromMs || this.#passed + i >= auditKept.entriesMax);
    const gone = await Promise.all(over.map(({ name, revision }) => documents.remove(kinds.audit, name, revision)));
    this.#removed += gone.filter(Boolean).length;
    this.#passed += page.length;
    if (page.length < pageEntries) return this.#endPass(passEveryMs);
    this.#after = page.at(-1)!.name;
    return pageEveryMs;
  }

  #endPass(waitMs: number): number {
    if (this.#removed > 0) this.#options.log.info({ removed: this.#removed }, "removed old entries of the audit");
    this.#after = "";
    this.#passed = 0;
    this.#removed = 0;
    return waitMs;
  }
}
