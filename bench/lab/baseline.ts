import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Row } from "./row.ts";

/**
 * The gate against slow decay: CPU µs per message of each process, compared with what was stored. Rates are not
 * compared, they belong to the machine of the day.
 */
export type Baseline = Readonly<Record<string, Readonly<Partial<Row["cpuMicros"]>>>>;

export type Change = { readonly id: string; readonly role: string; readonly was: number; readonly now: number };

/** A change in either direction by more than this is shown: slower is a question, faster a new baseline. */
const tolerance = 0.25;
/** Below this the kernel's ticks of 10 ms decide, not the code. */
const microsMin = 0.5;
/** Whose cost is ours to keep. */
const compared = ["server", "redis", "generator", "application", "database"] as const;

const file = fileURLToPath(new URL("../baseline.json", import.meta.url));

export const readBaseline = (): Baseline => {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Baseline;
  } catch {
    return {};
  }
};

export const writeBaseline = (rows: readonly Row[]): void => {
  const kept: Record<string, Partial<Row["cpuMicros"]>> = { ...readBaseline() };
  for (const row of rows) {
    if (row.void !== undefined || isPeer(row)) continue;
    const cpu = Object.entries(row.cpuMicros).map(([role, micros]) => [role, Math.round(micros * 100) / 100]);
    if (cpu.length > 0) kept[row.id] = Object.fromEntries(cpu);
  }
  const sorted = Object.fromEntries(Object.entries(kept).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(file, `${JSON.stringify(sorted, null, 2)}\n`);
};

const isPeer = ({ id }: Row): boolean => id.endsWith(" bullmq") || /^rocketmq timer\/\d/.test(id);

export const changes = (rows: readonly Row[], baseline: Baseline): Change[] =>
  rows.flatMap((row) =>
    compared.flatMap((role): Change[] => {
      const was = baseline[row.id]?.[role];
      const now = row.cpuMicros[role];
      if (was === undefined || now === undefined || Math.max(was, now) < microsMin) return [];
      return Math.abs(now - was) <= was * tolerance ? [] : [{ id: row.id, role, was, now }];
    }),
  );
