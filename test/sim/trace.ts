import { createHash } from "node:crypto";

/**
 * What happened, in order, for a person to read and for the checks of a run being the same twice. An entry names the
 * messages it is about, so that one message's history can be told alone.
 */
export type TraceEntry = {
  readonly atMs: number;
  readonly who: string;
  readonly what: string;
  /** Ids it is about; undefined: about nobody in particular, such as a crash. Those belong to every history. */
  readonly ids: readonly string[] | undefined;
  /** Large events of the world (crash, outage, heal), told in every message's history. */
  readonly weighty: boolean;
};

export class Trace {
  readonly entries: TraceEntry[] = [];
  readonly #nowMs: () => number;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** Something about these messages. */
  say(who: string, what: string, ids: readonly string[]): void {
    this.entries.push({ atMs: this.#nowMs(), who, what, ids, weighty: false });
  }

  /** Something small that concerns no message: a renewed lease, a log line. */
  note(who: string, what: string): void {
    this.entries.push({ atMs: this.#nowMs(), who, what, ids: undefined, weighty: false });
  }

  /** Something that explains what follows: a crash, an outage, a clock that jumps. */
  mark(who: string, what: string): void {
    this.entries.push({ atMs: this.#nowMs(), who, what, ids: undefined, weighty: true });
  }

  hash(): string {
    const hash = createHash("sha256");
    for (const { atMs, who, what, ids } of this.entries) hash.update(`${atMs} ${who} ${what} ${ids?.join()}\n`);
    return hash.digest("hex").slice(0, 16);
  }

  /** One message's history with the weighty events around it; everything when `ids` is undefined. */
  tell(ids?: ReadonlySet<string>): string {
    let entries: readonly TraceEntry[] = this.entries;
    if (ids !== undefined) {
      const concerns = (entry: TraceEntry): boolean => entry.ids?.some((id) => ids.has(id)) === true;
      const first = this.entries.findIndex(concerns);
      entries = this.entries.filter((entry, i) => concerns(entry) || (entry.weighty && i >= first - 200));
    }
    const whoWidth = Math.max(0, ...entries.map(({ who }) => who.length));
    return entries
      .map(({ atMs, who, what, ids: about }) => {
        const others =
          about === undefined || about.length <= 1 || ids === undefined ? "" : ` (with ${about.length - 1} others)`;
        const named = ids === undefined && about !== undefined ? ` [${about.map(shortId).join(" ")}]` : "";
        return `${(atMs / 1000).toFixed(4).padStart(11)} s  ${who.padEnd(whoWidth)}  ${what}${named}${others}`;
      })
      .join("\n");
  }
}

/** The last digits of an id are random enough to tell a run's messages apart. */
export const shortId = (id: string): string => id.slice(24);
