import type { Files, OpenFile } from "../../src/broker/files/files.port.ts";
import type { Prng } from "../sim/prng.ts";
import type { World } from "../sim/world.ts";

/**
 * A disk that does what disks are allowed to do, and some of what they are not. Its fault model:
 *
 * - A call that writes takes effect at the end of a random time; a process that dies in the middle of one leaves any
 *   part of it done, from the front.
 * - What was written and not synced stays when the process dies. When the power fails every piece of every such write
 *   is kept or lost by itself, cut at any byte, whatever came before or after it, in this file or in another; a file
 *   that lost a piece before one that it kept has zeros there. Truncations are kept or lost the same way.
 * - Names made, changed or removed and not synced with their folder are kept or lost each by itself.
 * - A sync that fails drops what it should have written: it reads as written until the power fails, and no later sync
 *   brings it to the disk. A sync that was under way at a power failure may have come through.
 * - A full disk writes what still fits, then fails with ENOSPC. Truncating and syncing go on to work.
 * - On request: a bit flips, in the memory and on the disk alike; a file vanishes; syncs take long.
 *
 * Folders themselves are durable at once, as `makeFolder` promises.
 */
type Change =
  | { readonly kind: "write"; readonly position: number; readonly bytes: Buffer }
  | { readonly kind: "truncate"; readonly sizeBytes: number };

type Inode = {
  /** What a process sees. */
  current: Buffer;
  /** What is on the disk for certain. */
  durable: Buffer;
  /** Between the two. */
  changes: Change[];
};

type NameChange = { readonly path: string; readonly inode: Inode | undefined };

const folderOf = (path: string): string => (path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : ".");

export class FaultyDisk {
  readonly #world: World;
  readonly #random: Prng;
  /** Bytes in all files; writes beyond fail. */
  capacityBytes = Number.POSITIVE_INFINITY;
  /** Of every call that syncs. */
  failSyncProbability = 0;
  /** The longest that a sync takes. */
  syncMsMax = 3;
  #names = new Map<string, Inode>();
  #durableNames = new Map<string, Inode>();
  #nameChanges: NameChange[] = [];
  /** Counts the processes that had the disk; calls of earlier ones have no effect and no answer. */
  #life = 0;
  #underWay = new Set<{ readonly crash: (() => void) | undefined }>();
  /** When a sync failed last. */
  syncFailedAtMs = Number.NEGATIVE_INFINITY;
  syncs = 0;

  constructor(world: World) {
    this.#world = world;
    this.#random = world.random.fork("disk");
  }

  get usedBytes(): number {
    return [...this.#names.values()].reduce((sum, { current }) => sum + current.length, 0);
  }

  paths(): readonly string[] {
    return [...this.#names.keys()].sort();
  }

  sizeOf(path: string): number {
    return this.#names.get(path)?.current.length ?? 0;
  }

  /** Flips a bit wherever its byte lies. */
  flip(path: string, at: number, bit: number): void {
    const inode = this.#names.get(path)!;
    const flipIn = (bytes: Buffer, place: number): void => {
      if (place >= 0 && place < bytes.length) bytes[place] = bytes[place]! ^ (1 << bit);
    };
    flipIn(inode.current, at);
    if (inode.durable !== inode.current) flipIn(inode.durable, at);
    for (const change of inode.changes) if (change.kind === "write") flipIn(change.bytes, at - change.position);
  }

  lose(path: string): void {
    this.#names.delete(path);
    this.#durableNames.delete(path);
    this.#nameChanges = this.#nameChanges.filter((change) => change.path !== path);
  }

  /** The process that uses the disk ends without a word. */
  crash(kind: "process" | "power"): void {
    this.#life++;
    for (const { crash } of this.#underWay) crash?.();
    this.#underWay.clear();
    if (kind === "process") return;
    const kept = this.#random.pick([0, 0.5, 0.9, 1]);
    for (const { path, inode } of this.#nameChanges)
      if (this.#random.chance(kept)) setName(this.#durableNames, path, inode);
    this.#nameChanges = [];
    this.#names = new Map(this.#durableNames);
    for (const inode of new Set(this.#names.values())) {
      for (const change of inode.changes) {
        for (const piece of this.#pieces(change)) {
          if (this.#random.chance(kept)) inode.durable = changed(inode.durable, piece);
        }
      }
      inode.changes = [];
      inode.current = Buffer.from(inode.durable);
    }
  }

  /** The files for one process, from now until it ends. */
  mount(): Files {
    const life = this.#life;
    const alive = (): void => {
      if (this.#life !== life) throw new Error("a dead process used the disk");
    };
    const later = <T>(delayMs: number, effect: () => T, crash?: () => void): Promise<T> =>
      new Promise((resolve, reject) => {
        if (this.#life !== life) return;
        const call = { crash };
        this.#underWay.add(call);
        this.#world.after(delayMs, undefined, () => {
          if (this.#life !== life) return;
          this.#underWay.delete(call);
          try {
            resolve(effect());
          } catch (error) {
            reject(error);
          }
        });
      });
    const quick = (): number => this.#random.between(0.01, 0.3);
    const syncing = (done: () => void, dropped: () => void): Promise<void> => {
      const fails = this.#random.chance(this.failSyncProbability);
      return later(
        this.#random.between(0.1, this.syncMsMax),
        () => {
          this.syncs++;
          if (!fails) return done();
          dropped();
          this.syncFailedAtMs = this.#world.nowMs;
          throw failure("EIO");
        },
        () => (!fails && this.#random.chance(0.5) ? done() : undefined),
      );
    };
    const rename = (path: string, inode: Inode | undefined): void => {
      setName(this.#names, path, inode);
      this.#nameChanges.push({ path, inode });
    };

    return {
      makeFolder: () => later(quick(), () => {}),
      list: (folder) => {
        alive();
        const names = [...this.#names.keys()].filter((path) => path.startsWith(`${folder}/`));
        return [...new Set(names.map((path) => path.slice(folder.length + 1).split("/")[0]!))].sort();
      },
      open: (path, missing) => {
        alive();
        if (!this.#names.has(path)) {
          if (missing === "leave") return undefined;
          rename(path, { current: Buffer.alloc(0), durable: Buffer.alloc(0), changes: [] });
        }
        return this.#file(this.#names.get(path)!, alive, later, quick, syncing);
      },
      rename: (from, to) =>
        later(quick(), () => {
          const inode = this.#names.get(from)!;
          rename(from, undefined);
          rename(to, inode);
        }),
      remove: (path) =>
        later(quick(), () => {
          for (const name of this.paths()) if (name === path || name.startsWith(`${path}/`)) rename(name, undefined);
        }),
      syncFolder: (folder) =>
        syncing(
          () => {
            const here = (change: NameChange): boolean => folderOf(change.path) === folder;
            for (const { path, inode } of this.#nameChanges.filter(here)) setName(this.#durableNames, path, inode);
            this.#nameChanges = this.#nameChanges.filter((change) => !here(change));
          },
          () => {},
        ),
    };
  }

  #file(
    inode: Inode,
    alive: () => void,
    later: <T>(delayMs: number, effect: () => T, crash?: () => void) => Promise<T>,
    quick: () => number,
    syncing: (done: () => void, dropped: () => void) => Promise<void>,
  ): OpenFile {
    let open = true;
    const usable = (): void => {
      alive();
      if (!open) throw failure("EBADF");
    };
    const apply = (change: Change): void => {
      inode.changes.push(change);
      inode.current = changed(inode.current, change);
    };
    const writeSome = (bytes: Buffer, position: number, length: number): void => {
      if (length > 0) apply({ kind: "write", position, bytes: Buffer.from(bytes.subarray(0, length)) });
    };
    return {
      get sizeBytes() {
        usable();
        return inode.current.length;
      },
      write: (bytes, position) => {
        usable();
        return later(
          quick(),
          () => {
            usable();
            const growth = Math.max(0, position + bytes.length - inode.current.length);
            const fits = bytes.length - Math.max(0, Math.min(growth, this.usedBytes + growth - this.capacityBytes));
            writeSome(bytes, position, Math.max(0, fits));
            if (fits < bytes.length) throw failure("ENOSPC");
          },
          () => writeSome(bytes, position, this.#random.whole(0, bytes.length)),
        );
      },
      read: (target, position) => {
        usable();
        return inode.current.copy(target, 0, Math.min(position, inode.current.length));
      },
      truncate: (sizeBytes) => {
        usable();
        return later(quick(), () => {
          usable();
          apply({ kind: "truncate", sizeBytes });
        });
      },
      sync: () => {
        usable();
        return syncing(
          () => {
            usableForSync(open);
            for (const change of inode.changes) inode.durable = changed(inode.durable, change);
            inode.changes = [];
          },
          () => {
            inode.changes = [];
          },
        );
      },
      close: () => {
        usable();
        open = false;
      },
    };
  }

  /** A write breaks at up to two places. */
  #pieces(change: Change): readonly Change[] {
    if (change.kind === "truncate") return [change];
    const { position, bytes } = change;
    const cuts = [0, this.#random.whole(0, bytes.length), this.#random.whole(0, bytes.length), bytes.length];
    cuts.sort((a, b) => a - b);
    return [0, 1, 2]
      .map((i) => ({
        kind: "write" as const,
        position: position + cuts[i]!,
        bytes: bytes.subarray(cuts[i], cuts[i + 1]),
      }))
      .filter((piece) => piece.bytes.length > 0);
  }
}

const setName = (names: Map<string, Inode>, path: string, inode: Inode | undefined): void => {
  if (inode === undefined) names.delete(path);
  else names.set(path, inode);
};

const changed = (before: Buffer, change: Change): Buffer => {
  if (change.kind === "truncate") {
    const after = Buffer.alloc(change.sizeBytes);
    before.copy(after);
    return after;
  }
  const after = Buffer.alloc(Math.max(before.length, change.position + change.bytes.length));
  before.copy(after);
  change.bytes.copy(after, change.position);
  return after;
};

const failure = (code: string): Error => Object.assign(new Error(`${code}: the simulated disk says so`), { code });

/** A file closed while it is synced would be synced under another one's number. */
const usableForSync = (open: boolean): void => {
  if (!open) throw new Error("a file was closed while it was synced");
};
