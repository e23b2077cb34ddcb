import type { Failpoint } from "../../src/runtime/failpoint.ts";
import type { SeededRandom } from "../faults/seeded-random.ts";

/**
 * What the crash matrix does to whom: its cells, and the life that each killed program is given. A life is short: the
 * start of a program is most of its cost, so it has work for some tens of transactions and is killed within them.
 */
export type Cell = {
  readonly mode: "outbox" | "half";
  readonly step: Failpoint;
  /** Where a step is the same for both: what the message it comes to was. */
  readonly of?: "committed" | "rolled-back";
};

export type Life = Cell & {
  /** Begins every id of this life, so that each message is known to belong to it. */
  readonly name: string;
  /** The step is come to so many times. */
  readonly nth: number;
};

export const cells: readonly Cell[] = [
  { mode: "outbox", step: "tx-row-written" },
  { mode: "outbox", step: "tx-before-commit" },
  { mode: "outbox", step: "tx-committed" },
  { mode: "outbox", step: "tx-sent" },
  { mode: "outbox", step: "tx-removed" },
  { mode: "outbox", step: "relay-claimed" },
  { mode: "outbox", step: "relay-sent" },
  { mode: "outbox", step: "relay-removed" },
  { mode: "half", step: "tx-row-written" },
  { mode: "half", step: "halves-sent" },
  { mode: "half", step: "tx-before-commit" },
  { mode: "half", step: "tx-committed" },
  { mode: "half", step: "half-committing" },
  { mode: "half", step: "check-judged", of: "committed" },
  { mode: "half", step: "check-judged", of: "rolled-back" },
  { mode: "half", step: "backstop-sent" },
];

export const cellName = ({ mode, step, of }: Cell): string => `${mode} ${step}${of === undefined ? "" : `, ${of}`}`;

/** Checks and overdue halves come a few at a time. */
const nthMax = { "check-judged": 4, "backstop-sent": 3 } as Readonly<Record<string, number>>;
const nthMaxElse = 5;

export const lifeOf = (index: number, round: number, random: SeededRandom): Life => {
  const cell = cells[index % cells.length]!;
  const nth = round === 0 ? random.between(1, nthMax[cell.step] ?? nthMaxElse) : 1;
  return { ...cell, name: `c${index}r${round}`, nth };
};
