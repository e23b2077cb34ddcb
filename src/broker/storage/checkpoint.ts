import { crc32 } from "node:zlib";
import type { Files } from "../files/files.port.ts";
import { readFile, replaceFile } from "../files/whole-file.ts";

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

export const writeCheckpoint = (files: Files, checkpoint: Checkpoint): Promise<void> => {
  const text = Buffer.from(JSON.stringify(checkpoint));
  return replaceFile(files, path, Buffer.concat([Buffer.from(checkLine(text)), text]));
};

export const readCheckpoint = (files: Files): Checkpoint | "none" | "damaged" => {
  const bytes = readFile(files, path);
  if (bytes === undefined) return "none";
  const text = bytes.subarray(checkLineBytes);
  if (bytes.toString("latin1", 0, checkLineBytes) !== checkLine(text)) return "damaged";
  return JSON.parse(text.toString()) as Checkpoint;
};

const checkLine = (text: Buffer): string => `${crc32(text).toString(16).padStart(8, "0")}\n`;
const checkLineBytes = 9;
