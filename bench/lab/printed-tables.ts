import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { noteStarted } from "./started.ts";

/** Some benchmarks are programs of their own that print tables. This runs one and reads what it printed. */
export const runProgram = async (
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string> => {
  const path = fileURLToPath(new URL(`../${file}`, import.meta.url));
  const child = spawn(process.execPath, [path, ...args], {
    env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: "0", ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  noteStarted(child.pid!);
  let text = "";
  child.stdout.on("data", (part: Buffer) => {
    text += part.toString();
  });
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`${file} ended with ${code}:\n${text.slice(-2_000)}`);
  return text;
};

/** The rows of every `console.table` in a text, by column name; the first column has the name "". */
export const consoleTables = (text: string): Record<string, string>[] => {
  const rows: Record<string, string>[] = [];
  let header: string[] = [];
  let isHeader = false;
  for (const line of text.split("\n")) {
    if (line.startsWith("┌")) isHeader = true;
    if (!line.startsWith("│")) continue;
    const cells = line
      .split("│")
      .slice(1, -1)
      .map((cell) => cell.trim().replace(/^'(.*)'$/, "$1"));
    if (isHeader) {
      header = cells.map((cell) => (cell === "(index)" ? "" : cell));
      isHeader = false;
    } else {
      rows.push(Object.fromEntries(cells.map((cell, i) => [header[i] ?? "", cell])));
    }
  }
  return rows;
};
