import { crc32 } from "node:zlib";
import type { Files } from "../files/files.port.ts";

/**
 * What was on the disk for certain at one moment: the commit log up to a position, and all entries of the queues for
 * what lies before it. Recovery starts there instead of at the beginning. It replaces the one before in one step; lost
 * or damaged, it costs a longer start and nothing else.
 */
export type Checkpoint = {
  readonly position: number;
  readonly queues: readonly {
    readonly topic: string;
    readonly queueId: number;
    readonly first: number;
    readonly next: number;
  }[];
};

const path = "checkpoint";
const draftPath = "checkpoint.new";

export const writeCheckpoint = async (files: Files, checkpoint: Checkpoint): Promise<void> => {
  const text = Buffer.from(JSON.stringify(checkpoint));
  const file = files.open(draftPath, "create")!;
  try {
    await file.truncate(0);
    await file.write(Buffer.concat([Buffer.from(checkLine(text)), text]), 0);
    await file.sync();
  } finally {
    file.close();
  }
  await files.rename(draftPath, path);
  await files.syncFolder(".");
};

export const readCheckpoint = (files: Files): Checkpoint | "none" | "damaged" => {
  const file = files.open(path, "leave");
  if (file === undefined) return "none";
  const bytes = Buffer.alloc(file.sizeBytes);
  file.read(bytes, 0);
  file.close();
  const text = bytes.subarray(checkLineBytes);
  if (bytes.toString("latin1", 0, checkLineBytes) !== checkLine(text)) return "damaged";
  return JSON.parse(text.toString()) as Checkpoint;
};

const checkLine = (text: Buffer): string => `${crc32(text).toString(16).padStart(8, "0")}\n`;
const checkLineBytes = 9;
