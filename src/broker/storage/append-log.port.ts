/**
 * An append-only file of checksummed records, cut into segments. The commit log is one; what consumers have done is
 * written into another.
 */
export interface AppendLog {
  /** Writes after all that came before. Positions are known at once, and stand for good when `durable` resolves. */
  append(records: readonly Buffer[]): { readonly positions: readonly number[]; readonly durable: Promise<void> };
  /** Undefined when there is none at that position (any more), or it is damaged. */
  read(position: number): Buffer | undefined;
  /** Whole records from a position on, in order, until the end or the first damaged one. */
  scan(fromPosition: number): Iterable<{ readonly position: number; readonly record: Buffer }>;
  readonly firstPosition: number;
  /** Where the next record goes. */
  readonly endPosition: number;
  /** Removes the segments that lie wholly before a position. */
  dropBefore(position: number): Promise<void>;
  close(): Promise<void>;
}
