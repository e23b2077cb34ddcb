import {
  closeSync,
  constants,
  fdatasync,
  fstatSync,
  ftruncate,
  openSync,
  promises,
  readdirSync,
  readSync,
  write,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { Files, OpenFile } from "./files.port.ts";

/** Files on the machine's disk, below a folder. */
export const nodeFiles = (folder: string): Files => {
  const root = resolve(folder);
  return {
    async makeFolder(folder) {
      const path = join(root, folder);
      const first = await promises.mkdir(path, { recursive: true });
      if (first === undefined) return;
      // The name of each new folder stands in its parent.
      for (let made = path; made.length >= first.length; made = dirname(made)) await syncFolderAt(dirname(made));
    },
    list(folder) {
      try {
        return readdirSync(join(root, folder)).sort();
      } catch (error) {
        if (isMissing(error)) return [];
        throw error;
      }
    },
    open(path, missing) {
      const flags = constants.O_RDWR | (missing === "create" ? constants.O_CREAT : 0);
      try {
        return new NodeFile(openSync(join(root, path), flags, 0o640));
      } catch (error) {
        if (missing === "leave" && isMissing(error)) return undefined;
        throw error;
      }
    },
    rename: (from, to) => promises.rename(join(root, from), join(root, to)),
    remove: (path) => promises.rm(join(root, path), { recursive: true, force: true }),
    syncFolder: (folder) => syncFolderAt(join(root, folder)),
  };
};

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === "ENOENT";

const syncFolderAt = async (path: string): Promise<void> => {
  const handle = await promises.open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
};

class NodeFile implements OpenFile {
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  get sizeBytes(): number {
    return fstatSync(this.#fd).size;
  }

  // The callback functions: a promise of node:fs/promises costs as much again as the call.
  write(bytes: Buffer, position: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const from = (offset: number): void =>
        write(this.#fd, bytes, offset, bytes.length - offset, position + offset, (error, written) => {
          if (error !== null) reject(error);
          else if (offset + written < bytes.length) from(offset + written);
          else resolve();
        });
      from(0);
    });
  }

  read(target: Buffer, position: number): number {
    let read = 0;
    while (read < target.length) {
      const got = readSync(this.#fd, target, read, target.length - read, position + read);
      if (got === 0) break;
      read += got;
    }
    return read;
  }

  truncate(sizeBytes: number): Promise<void> {
    return new Promise((resolve, reject) =>
      ftruncate(this.#fd, sizeBytes, (error) => (error === null ? resolve() : reject(error))),
    );
  }

  sync(): Promise<void> {
    return new Promise((resolve, reject) =>
      fdatasync(this.#fd, (error) => (error === null ? resolve() : reject(error))),
    );
  }

  close(): void {
    closeSync(this.#fd);
  }
}
