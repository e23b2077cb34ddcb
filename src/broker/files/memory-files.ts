import type { Files, OpenFile } from "./files.port.ts";

/** Files of a broker that keeps nothing: gone with the process. `sync` has nothing to do. */
export const memoryFiles = (): Files => {
  const contents = new Map<string, MemoryFile>();
  const inFolder = (path: string, folder: string): boolean => path.startsWith(`${folder}/`);
  return {
    makeFolder: async () => {},
    list(folder) {
      const names = new Set<string>();
      for (const path of contents.keys()) {
        if (inFolder(path, folder)) names.add(path.slice(folder.length + 1).split("/")[0]!);
      }
      return [...names].sort();
    },
    open(path, missing) {
      const there = contents.get(path);
      if (there !== undefined || missing === "leave") return there;
      const made = new MemoryFile();
      contents.set(path, made);
      return made;
    },
    async rename(from, to) {
      contents.set(to, contents.get(from)!);
      contents.delete(from);
    },
    async remove(path) {
      for (const name of [...contents.keys()]) if (name === path || inFolder(name, path)) contents.delete(name);
    },
    syncFolder: async () => {},
  };
};

/** A file grows by whole blocks, so that nothing is ever copied to make room. */
const blockBytes = 16 * 1024;

class MemoryFile implements OpenFile {
  readonly #blocks: Buffer[] = [];
  #sizeBytes = 0;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async write(bytes: Buffer, position: number): Promise<void> {
    while (this.#blocks.length * blockBytes < position + bytes.length) this.#blocks.push(Buffer.alloc(blockBytes));
    this.#pieces(position, bytes.length, (block, at, from, length) => bytes.copy(block, at, from, from + length));
    this.#sizeBytes = Math.max(this.#sizeBytes, position + bytes.length);
  }

  read(target: Buffer, position: number): number {
    const length = Math.max(0, Math.min(target.length, this.#sizeBytes - position));
    this.#pieces(position, length, (block, at, from, piece) => block.copy(target, from, at, at + piece));
    return length;
  }

  async truncate(sizeBytes: number): Promise<void> {
    // Bytes that are cut off read as zeros, should the file grow over their place again.
    const cut = Math.max(0, this.#sizeBytes - sizeBytes);
    this.#pieces(sizeBytes, cut, (block, at, _, piece) => block.fill(0, at, at + piece));
    this.#blocks.length = Math.min(this.#blocks.length, Math.ceil(sizeBytes / blockBytes));
    this.#sizeBytes = sizeBytes;
  }

  async sync(): Promise<void> {}

  close(): void {}

  #pieces(
    position: number,
    length: number,
    each: (block: Buffer, at: number, from: number, length: number) => void,
  ): void {
    for (let from = 0; from < length; ) {
      const at = (position + from) % blockBytes;
      const piece = Math.min(blockBytes - at, length - from);
      each(this.#blocks[Math.floor((position + from) / blockBytes)]!, at, from, piece);
      from += piece;
    }
  }
}
