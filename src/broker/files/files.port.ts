/**
 * Files as the broker needs them: few calls, each with the promise it makes about a crash. Paths are relative to one
 * data folder, parts separated by `/`. Failures are errors with Node's codes (`ENOSPC`, `EIO`, …).
 *
 * What is written waits in a thread, because a disk may take seconds; what is read comes at once, because it nearly
 * always lies in the page cache, where a read costs 1.2 µs and a trip to a thread 30.
 *
 * Nothing is durable before `sync` (the bytes and the length of a file) or `syncFolder` (which names there are).
 */
export interface Files {
  /** With its parents; durable when it resolves. */
  makeFolder(folder: string): Promise<void>;
  /** The names in a folder, sorted; none when there is no such folder. */
  list(folder: string): readonly string[];
  /** Undefined when there is no such file and it is not to be created. */
  open(path: string, missing: "leave" | "create"): OpenFile | undefined;
  /** In place of what has that name. Atomic; durable after `syncFolder`. */
  rename(from: string, to: string): Promise<void>;
  /** A file, or a folder with all that is in it; nothing happens when it is not there. Durable after `syncFolder`. */
  remove(path: string): Promise<void>;
  syncFolder(folder: string): Promise<void>;
}

export interface OpenFile {
  readonly sizeBytes: number;
  /** All of it, or it throws, and then any part of it may have been written. */
  write(bytes: Buffer, position: number): Promise<void>;
  /** @returns how many bytes there were; fewer than `target` has room for at the end of the file only. */
  read(target: Buffer, position: number): number;
  truncate(sizeBytes: number): Promise<void>;
  /**
   * When this throws, what was written since the last time may never get to the disk, and a second try that succeeds
   * proves nothing: the system may have given up on those pages.
   */
  sync(): Promise<void>;
  close(): void;
}
