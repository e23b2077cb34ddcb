import type { Change } from "./baseline.ts";
import type { Role, Row } from "./row.ts";
import type { Verdict } from "./targets.ts";

/** Rows as text: for the terminal and for Markdown. */
const roles: readonly Role[] = ["generator", "application", "server", "redis", "database", "rocketmq", "consumer"];

/** Three figures say all there is to say. */
export const figure = (value: number): string => {
  if (!Number.isFinite(value)) return "–";
  if (value >= 1000) return Math.round(value).toLocaleString("en");
  return value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
};

export const cpuOf = ({ cpuMicros }: Row): string =>
  roles
    .filter((role) => cpuMicros[role] !== undefined)
    .map((role) => `${role} ${figure(cpuMicros[role]!)}`)
    .join(", ");

export const numbersOf = ({ numbers }: Row): string =>
  Object.entries(numbers)
    .map(
      ([name, value]) =>
        `${name.replace(/ (ms|B per message|B per operation)$/, "")} ${figure(value)}${/ ms$/.test(name) ? " ms" : / B per/.test(` ${name}`) ? " B" : ""}`,
    )
    .join(", ");

export const lineOf = (row: Row): string => {
  const parts = [
    row.perSecond === undefined ? "" : `${figure(row.perSecond)}/s`,
    numbersOf(row),
    cpuOf(row) === "" ? "" : `µs: ${cpuOf(row)}`,
    row.durability === "none" ? "" : row.durability,
    row.othersShare === undefined || row.othersShare < 0.1
      ? ""
      : `others used ${(row.othersShare * 100).toFixed(0)} % of the machine`,
    row.void === undefined ? "" : `VOID: ${row.void}`,
  ];
  return `  ${row.what}\n      ${parts.filter((part) => part !== "").join("  ·  ")}`;
};

const fraction = (value: number): string => (value < 1 ? `1/${figure(1 / value)}` : `${figure(value)}×`);

export const mustOf = ({ must, better, against, number }: Verdict): string => {
  const sign = better === "higher" ? "≥" : "≤";
  return against === undefined
    ? `${sign} ${figure(must)}${number === "perSecond" ? "/s" : ""}`
    : `${sign} ${fraction(must)}`;
};

export const measuredOf = ({ value, against, number }: Verdict): string =>
  against === undefined ? `${figure(value)}${number === "perSecond" ? "/s" : ""}` : fraction(value);

export const verdictLine = (verdict: Verdict): string =>
  `  ${verdict.verdict.padEnd(8)} ${verdict.row}${verdict.against === undefined ? "" : ` against ${verdict.against}`}, ${verdict.number === "perSecond" ? "rate" : verdict.number}: ${measuredOf(verdict)} (must ${mustOf(verdict)})`;

export const changeLine = ({ id, role, was, now }: Change): string =>
  `  ${id}: ${role} ${figure(was)} → ${figure(now)} µs per message (${now > was ? "+" : "−"}${figure(Math.abs(now / was - 1) * 100)} %)`;
