/**
 * An append-only file of checksummed records, cut into segments. The commit log is one; what consumers have done is
 * written into another.
 */
export interface AppendLog {
  /**
   * Writes after all that came before, next to each other. Positions are known at once, and stand for good when
   * `durable` resolves.
   * @throws BrokerError, or `durable` rejects with one, when nothing was stored; what was appended later is refused too.
   */
  append(records: readonly Buffer[]): { readonly positions: readonly number[]; readonly durable: Promise<void> };
  /** Undefined when there is none at that position (any more), or it is damaged. Who knows its length saves a look. */
  read(position: number, recordBytes?: number): Buffer | undefined;
  /** Whole records from a position on, in order, until the end. Damaged ones are left out, and logged. */
  scan(fromPosition: number): Iterable<{ readonly position: number; readonly record: Buffer }>;
  readonly firstPosition: number;
  /** Where the next record goes. */
  readonly endPosition: number;
  /** Resolves once all that was written is on the disk, with the position up to which that is so. */
  sync(): Promise<number>;
  /** Removes the segments that lie wholly before a position. */
  dropBefore(position: number): Promise<void>;
  close(): Promise<void>;
}
