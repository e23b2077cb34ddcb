import type { CrashReport } from "./crash-matrix.ts";
import { cellName } from "./crash-plan.ts";

const columns = ["kills", "committed", "rolled back", "cut by kill", "copies", "lost", "ghosts", "other id"] as const;

/** Step × mode × outcome, with a sum. */
export const crashTable = ({ cells }: CrashReport): string => {
  const rows = cells.map((cell) => ({
    name: cellName(cell),
    numbers: [
      cell.kills,
      cell.committed,
      cell.rolledBack,
      cell.cut,
      cell.copies,
      cell.lost.length,
      cell.ghosts.length,
      cell.copiesWithAnotherId.length,
    ],
  }));
  const sums = columns.map((_, n) => rows.reduce((sum, { numbers }) => sum + numbers[n]!, 0));
  const width = Math.max(...rows.map(({ name }) => name.length));
  const line = (name: string, values: readonly (string | number)[]): string =>
    name.padEnd(width) + values.map((value, n) => String(value).padStart(columns[n]!.length + 2)).join("");
  return [
    line("mode and step", columns),
    ...rows.map(({ name, numbers }) => line(name, numbers)),
    line("sum", sums),
  ].join("\n");
};
