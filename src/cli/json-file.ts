import { readFile } from "node:fs/promises";
import { UsageError } from "./exit-codes.ts";

/** Files that a command is given. What is wrong with them is a usage error. */

export const textIn = async (path: string, what: string): Promise<string> => {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new UsageError(`Cannot read ${what} from ${path}: ${(error as Error).message}`);
  }
};

export const jsonIn = async (path: string, what: string): Promise<unknown> => parsed(await textIn(path, what), path);

/** One JSON array, or one JSON value a line. */
export const linesIn = async (path: string, what: string): Promise<unknown[]> => {
  const text = await textIn(path, what);
  if (text.trimStart().startsWith("[")) return parsed(text, path) as unknown[];
  return text
    .split("\n")
    .map((line, i) => [line.trim(), `line ${i + 1} of ${path}`] as const)
    .filter(([line]) => line !== "")
    .map(([line, place]) => parsed(line, place));
};

const parsed = (text: string, place: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    throw new UsageError(`${place} is not JSON.`);
  }
};
