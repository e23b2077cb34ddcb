import { type CellReport, counts, faults } from "./crash-books.ts";
import { cellName } from "./crash-plan.ts";

/** Step × mode × outcome, with a sum. */
export const crashTable = (cells: readonly CellReport[]): string => {
  const columns = [...counts, ...faults].map((name) => name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`));
  const rows = cells.map((cell) => ({
    name: cellName(cell),
    numbers: [...counts.map((name) => cell[name]), ...faults.map((name) => cell[name].length)],
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
