import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import type { SeededRandom } from "./seeded-random.ts";

/** Flips single bits of a file in place, at places that the seed decides. @returns where. */
export const flip = (path: string, random: SeededRandom, bits: number): number[] => {
  const file = openSync(path, "r+");
  const { size } = fstatSync(file);
  const places: number[] = [];
  const byte = Buffer.alloc(1);
  for (let i = 0; i < bits && size > 0; i++) {
    const at = random.between(0, size - 1);
    readSync(file, byte, 0, 1, at);
    byte[0]! ^= 1 << random.between(0, 7);
    writeSync(file, byte, 0, 1, at);
    places.push(at);
  }
  closeSync(file);
  return places;
};
