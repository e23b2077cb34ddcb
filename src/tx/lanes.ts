import type { LanePlace, RowStub } from "./outbox.port.ts";

/**
 * Which rows of a batch may be sent, and in which order. Pure.
 *
 * Of a lane only the first row may be on its way. A lane's rows in the batch may go if nothing of the lane stands
 * before them outside of it: a head that waits for its next try, or that somebody else is removing just now.
 *
 *   lane 7 holds rows 1 (failed, waits 30 s more), 4, 9; the batch has 4 and 9  →  both wait 30 s
 *   lane 8 holds rows 2, 3, 6 (not yet due), 8; the batch has 2, 3, 8   →  2 and 3 go, 8 waits for 6
 */
export type Runnable = {
  /** Rows without a lane, and what may go of each lane. */
  readonly rows: readonly number[];
  /** What stands behind something else, with how long that something still waits. */
  readonly blocked: ReadonlyMap<number, number>;
};

/** When what stands before is due already (locked, or beyond the batch): soon gone. */
const soonMs = 50;
/**
 * One that was never tried is on its way mostly, and gone long before its grace ends; or it is held, by a sender that
 * died, and its followers must not be put off until the year in which a held row would be due.
 */
const untriedMaxMs = 200;

export const runnable = (
  batch: readonly Pick<RowStub, "row" | "lane">[],
  places: readonly LanePlace[],
  gone: ReadonlySet<number> = new Set(),
): Runnable => {
  const inBatch = new Set(batch.map(({ row }) => row));
  const placesByLane = Map.groupBy(places, ({ lane }) => lane);
  const rows: number[] = [];
  const blocked = new Map<number, number>();
  for (const [lane, members] of Map.groupBy(batch, (one) => one.lane)) {
    if (lane === undefined) {
      rows.push(...members.map(({ row }) => row));
      continue;
    }
    const inOrder = (placesByLane.get(lane) ?? []).filter(({ row }) => !gone.has(row)).sort((a, b) => a.row - b.row);
    const until = inOrder.findIndex(({ row }) => !inBatch.has(row));
    const free = new Set((until < 0 ? inOrder : inOrder.slice(0, until)).map(({ row }) => row));
    const waitMs = until < 0 ? soonMs : Math.max(soonMs, waitFor(inOrder[until]!));
    for (const { row } of members.toSorted((a, b) => a.row - b.row)) {
      if (free.has(row)) rows.push(row);
      else blocked.set(row, waitMs);
    }
  }
  return { rows, blocked };
};

const waitFor = ({ inMs, wasTried }: LanePlace): number => (wasTried ? inMs : Math.min(inMs, untriedMaxMs));

/**
 * How many places of each lane tell where its first row outside of the batch is: one more than the batch holds, and as
 * many as may be gone.
 */
export const placesAsked = (batch: readonly Pick<RowStub, "lane">[], goneMax = 0): ReadonlyMap<number, number> => {
  const asked = new Map<number, number>();
  for (const { lane } of batch) if (lane !== undefined) asked.set(lane, (asked.get(lane) ?? 1 + goneMax) + 1);
  return asked;
};

/** Sent one wave after the other: no wave holds two rows of one lane, and lanes keep the order of their rows. */
export const waves = <T extends { readonly row: number; readonly lane: number | undefined }>(
  rows: readonly T[],
): T[][] => {
  const found: T[][] = [];
  const next = new Map<number, number>();
  for (const one of rows.toSorted((a, b) => a.row - b.row)) {
    const wave = one.lane === undefined ? 0 : (next.get(one.lane) ?? 0);
    if (one.lane !== undefined) next.set(one.lane, wave + 1);
    found[wave] ??= [];
    found[wave].push(one);
  }
  return found;
};
