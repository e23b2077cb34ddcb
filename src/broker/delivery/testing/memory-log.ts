import type { AppendLog } from "../../storage/append-log.port.ts";

const headerBytes = 8;

/** An append log in memory, with a disk that can be slow, full, or damaged. */
export class MemoryLog implements AppendLog {
  readonly segmentBytes = 4096;
  records: { readonly position: number; readonly record: Buffer }[] = [];
  appends = 0;
  /** Set, appends are refused with it. */
  failure: Error | undefined;
  /** While set, nothing becomes durable. */
  slow: Promise<void> | undefined;
  #end = 0;

  static of(records: readonly { readonly position: number; readonly record: Buffer }[]): MemoryLog {
    const log = new MemoryLog();
    log.records = [...records];
    const last = records.at(-1);
    if (last !== undefined) log.#end = last.position + headerBytes + last.record.length;
    return log;
  }

  append(records: readonly Buffer[]) {
    this.appends++;
    const { failure } = this;
    if (failure !== undefined) return { positions: records.map(() => this.#end), durable: Promise.reject(failure) };
    const positions = records.map((record) => {
      const position = this.#end;
      this.#end += headerBytes + record.length;
      this.records.push({ position, record });
      return position;
    });
    return { positions, durable: this.slow ?? Promise.resolve() };
  }

  read(position: number): Buffer | undefined {
    return this.records.find((record) => record.position === position)?.record;
  }

  *scan(fromPosition: number) {
    for (const record of [...this.records]) if (record.position >= fromPosition) yield record;
  }

  get firstPosition(): number {
    return this.records[0]?.position ?? 0;
  }

  get endPosition(): number {
    return this.#end;
  }

  async dropBefore(position: number): Promise<void> {
    const segmentStart = position - (position % this.segmentBytes);
    this.records = this.records.filter((record) => record.position >= segmentStart);
  }

  async sync(): Promise<number> {
    return this.#end;
  }

  async close(): Promise<void> {}
}
