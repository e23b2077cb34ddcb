import type { Files, OpenFile } from "./files.port.ts";

/** Of a limit of 1,024 open files per process, which is usual; the rest is for connections. */
const openMax = 200;

/**
 * Files that are open for reading, up to a number. Only for reads: they are over when they return, so that closing one
 * here takes a file from nobody's hands. Who writes opens the file for itself.
 */
export class ReadHandles {
  readonly #files: Files;
  readonly #open = new Map<string, OpenFile>();

  constructor(files: Files) {
    this.#files = files;
  }

  get(path: string): OpenFile | undefined {
    const known = this.#open.get(path);
    if (known !== undefined) return known;
    const file = this.#files.open(path, "leave");
    if (file === undefined) return undefined;
    if (this.#open.size >= openMax) {
      const [oldest] = this.#open.keys();
      this.forget(oldest!);
    }
    this.#open.set(path, file);
    return file;
  }

  /** Before the file, or the folder, is removed. */
  forget(path: string): void {
    for (const [name, file] of this.#open) {
      if (name !== path && !name.startsWith(`${path}/`)) continue;
      file.close();
      this.#open.delete(name);
    }
  }

  close(): void {
    for (const file of this.#open.values()) file.close();
    this.#open.clear();
  }
}
