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

/** What a program sends with, and where to. */
export type World = {
  readonly mysql: string;
  readonly rocketmq: { readonly endpoint: string };
  readonly escapement: { readonly url: string };
  readonly ingestTopic: string;
  readonly topics: {
    readonly outbox: string;
    readonly half: string;
    /** Those with a key, in one queue: so the order of receipt is that of sending. */
    readonly ordered: string;
    readonly delayed: string;
  };
};

/** Of a message that will be canceled: long enough for a relay that comes after a kill (grace and lease: a second). */
export const canceledDelayMs = 3_000;
export const keptDelayMs = 800;

export const cells: readonly Cell[] = [
  { mode: "outbox", step: "tx-row-written" },
  { mode: "outbox", step: "tx-before-commit" },
  { mode: "outbox", step: "tx-committed" },
  { mode: "outbox", step: "tx-sent" },
  { mode: "outbox", step: "tx-removed" },
  { mode: "outbox", step: "relay-claimed" },
  { mode: "outbox", step: "relay-sent" },
  { mode: "outbox", step: "relay-removed" },
  { mode: "outbox", step: "cancel-name-taken" },
  { mode: "outbox", step: "cancel-done" },
  { mode: "half", step: "tx-row-written" },
  { mode: "half", step: "halves-sent" },
  { mode: "half", step: "tx-before-commit" },
  { mode: "half", step: "tx-committed" },
  { mode: "half", step: "half-committing" },
  { mode: "half", step: "check-judged", of: "committed" },
  { mode: "half", step: "check-judged", of: "rolled-back" },
  { mode: "half", step: "backstop-sent" },
  { mode: "half", step: "cancel-done" },
];

export const cellName = ({ mode, step, of }: Cell): string => `${mode} ${step}${of === undefined ? "" : `, ${of}`}`;

/**
 * Checks and overdue halves come a few at a time, cancels by every second transaction; of rows each writes four or
 * five; the fast path does many at once.
 */
const nthMax: Readonly<Partial<Record<Failpoint, number>>> = {
  "check-judged": 4,
  "backstop-sent": 3,
  "cancel-name-taken": 1,
  "cancel-done": 2,
  "tx-row-written": 24,
  "tx-sent": 3,
  "tx-removed": 3,
};
const nthMaxElse = 5;

export const lifeOf = (index: number, round: number, random: SeededRandom): Life => {
  const cell = cells[index % cells.length]!;
  const nth = round === 0 ? random.between(1, nthMax[cell.step] ?? nthMaxElse) : 1;
  return { ...cell, name: `c${index}r${round}`, nth };
};
