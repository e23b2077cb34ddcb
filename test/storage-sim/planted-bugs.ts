import type { Files, OpenFile } from "../../src/broker/files/files.port.ts";
import { ConsumeQueue } from "../../src/broker/storage/consume-queue.ts";
import { QueueTable } from "../../src/broker/storage/queue-table.ts";
import { SegmentedLog, type SegmentedLogOptions } from "../../src/broker/storage/segmented-log.ts";
import type { Plant } from "./simulate.ts";

/** Bugs that somebody could make. Each says which promise must be seen broken: any other would be luck. */
export type PlantedBug = { readonly name: string; readonly breaks: RegExp; readonly plant: Plant };

const inLog = (path: string): boolean => path.startsWith("commitlog/");

/** A file layer that changes what is done with some files. */
const withFiles = (concerns: (path: string) => boolean, change: (file: OpenFile) => Partial<OpenFile>): Plant => ({
  files: (files) => ({
    ...files,
    open: (path, missing) => {
      const file = files.open(path, missing);
      if (file === undefined || !concerns(path)) return file;
      const changed = change(file);
      return {
        get sizeBytes() {
          return file.sizeBytes;
        },
        write: changed.write ?? file.write,
        read: file.read,
        truncate: changed.truncate ?? file.truncate,
        sync: changed.sync ?? file.sync,
        close: file.close,
      };
    },
  }),
});

/** Replaces a method while the simulation runs. */
const replaced =
  <T extends object, K extends keyof T>(target: T, name: K, make: (original: T[K]) => T[K]) =>
  () => {
    const before = Object.getOwnPropertyDescriptor(target, name)!;
    Object.defineProperty(target, name, { ...before, value: make(target[name]) });
    return () => Object.defineProperty(target, name, before);
  };

const lost = /^what was acknowledged is there/;

export const plantedBugs: readonly PlantedBug[] = [
  {
    name: "an acknowledgement before the sync",
    breaks: lost,
    plant: withFiles(inLog, () => ({ sync: async () => {} })),
  },
  {
    name: "a new segment whose name is never synced",
    breaks: lost,
    plant: { files: (files: Files) => ({ ...files, syncFolder: async () => {} }) },
  },
  {
    name: "a sync that failed and is tried again until it succeeds",
    breaks: lost,
    plant: withFiles(inLog, (file) => ({ sync: () => file.sync().catch(() => file.sync().catch(() => {})) })),
  },
  {
    name: "a start that trusts what it can read, and does not write it again",
    breaks: lost,
    plant: withFiles(inLog, (file) => ({
      write: async (bytes, position) => {
        const there = Buffer.alloc(bytes.length);
        if (file.read(there, position) === bytes.length && there.equals(bytes)) return;
        await file.write(bytes, position);
      },
    })),
  },
  {
    name: "a refused write that is left where it is",
    breaks: /^what was refused is not stored|^nothing appears twice|^messages are in the order/,
    plant: withFiles(inLog, () => ({ truncate: async () => {} })),
  },
  {
    name: "offsets that are not taken back when a write is refused",
    breaks: /^a store works again|^offsets do not change|^what was acknowledged can be read/,
    plant: {
      code: replaced(
        SegmentedLog,
        "open",
        (open) => (options: SegmentedLogOptions) => open.call(SegmentedLog, { ...options, onRefused: () => {} }),
      ),
    },
  },
  {
    name: "a checkpoint that takes its place before it is on the disk",
    breaks: /^offsets are not given out again/,
    plant: withFiles(
      (path) => path === "checkpoint.new",
      () => ({ sync: async () => {} }),
    ),
  },
  {
    name: "a start that misses the first record after the checkpoint",
    breaks: lost,
    plant: {
      code: replaced(
        SegmentedLog.prototype,
        "scan",
        (scan) =>
          function* (this: SegmentedLog, from: number) {
            let first = from > 0;
            for (const found of scan.call(this, from)) {
              if (!first) yield found;
              first = false;
            }
          },
      ),
    },
  },
  {
    name: "offsets that close up over a damaged message",
    breaks: /^offsets do not change|^what was acknowledged is there/,
    plant: { code: replaced(ConsumeQueue.prototype, "skipTo", () => () => {}) },
  },
  {
    name: "a deletion that a start does not know of",
    breaks: /^a queue shows only what was sent to it|^messages are in the order/,
    plant: {
      files: (files) => ({ ...files, remove: async () => {} }),
      code: replaced(QueueTable.prototype, "delete", () => () => {}),
    },
  },
];
