import { idBytes, idFromBytes, idIntoBytes, type MessageId } from "../message/id.ts";
import type { EpochMs } from "../message/time.ts";
import type { RedriveCounts } from "../wire/dead.ts";

/**
 * A redrive goes in portions. Each is one document: which messages, and what became of each. It is written *before*
 * any of them is brought back, so whoever takes the job over after a crash knows which ones he has to look at. An id
 * and its outcome take 23 bytes, because a job may be about a million.
 */
export type Portion = {
  readonly number: number;
  readonly ids: readonly MessageId[];
  /** When each was seen to have died: needed until it is known to have been brought back. */
  readonly diedAtMs: readonly EpochMs[];
  /** Of each: whether its consumer will tell what became of it. */
  readonly isConsumers: readonly boolean[];
  readonly codes: OutcomeCode[];
};

/**
 * - `intended`: about to be brought back. `sent`: waits in the store for its turn, or is tried by the dispatcher.
 * - `delivered`: in the group's retry topic; the consumer has not said anything yet.
 * - `succeeded`; `failed`: at least once, and is being retried; `dead-again`.
 * - `canceled`: somebody canceled it, or it expired, before it was sent.
 * - all others: it was not touched, and why.
 */
export const outcomeCodes = {
  intended: "i",
  sent: "s",
  delivered: "d",
  succeeded: "+",
  failed: "f",
  "dead-again": "x",
  canceled: "c",
  unknown: "u",
  "replay-cap": "R",
  "not-dead": "N",
  "own-topic": "O",
  "bad-topic": "T",
  "too-large": "L",
  damaged: "D",
} as const;

export type OutcomeCode = keyof typeof outcomeCodes;

export const skipReasons = ["replay-cap", "not-dead", "own-topic", "bad-topic", "too-large", "damaged"] as const;
export type SkipReason = (typeof skipReasons)[number];

const isSkip = (code: OutcomeCode): code is SkipReason => (skipReasons as readonly string[]).includes(code);

const codeOfLetter: ReadonlyMap<string, OutcomeCode> = new Map(
  Object.entries(outcomeCodes).map(([code, letter]) => [letter, code as OutcomeCode]),
);

/** Half a second at 4,000 a second; with its ids and codes a quarter of what a document may hold. */
export const portionMessagesMax = 2_000;

/** Nothing more will happen to it that this job would hear of. */
export const isFinal = (code: OutcomeCode): boolean =>
  code !== "intended" && code !== "sent" && code !== "delivered" && code !== "failed";

export const noCounts = (): RedriveCounts => ({
  sent: 0,
  succeeded: 0,
  failed: 0,
  deadAgain: 0,
  canceled: 0,
  skipped: 0,
  pending: 0,
});

export const count = (counts: RedriveCounts, code: OutcomeCode, by: number): void => {
  if (code === "intended") return;
  if (isSkip(code)) {
    counts.skipped += by;
    return;
  }
  counts.sent += by;
  if (code === "succeeded") counts.succeeded += by;
  else if (code === "failed") counts.failed += by;
  else if (code === "dead-again") counts.deadAgain += by;
  else if (code === "canceled") counts.canceled += by;
  else counts.pending += by;
};

/**
 * The one place where an outcome follows another. News may come late and twice: what is final stays, except that who
 * was retried may still succeed or die.
 */
export const follow = (from: OutcomeCode, to: OutcomeCode): OutcomeCode => {
  if (isFinal(from) && from !== "unknown") return from;
  if (from === "failed" && (to === "sent" || to === "delivered" || to === "unknown")) return from;
  return to;
};

// --- as text ---------------------------------------------------------------------------------------------------------

type Written = {
  readonly ids: string;
  readonly codes: string;
  readonly consumers: string;
  readonly died?: readonly number[];
  readonly after: unknown;
};

/** `after`: where the selection stands behind this portion. */
export const encodePortion = (portion: Portion, after: unknown): string => {
  const ids = Buffer.allocUnsafe(portion.ids.length * idBytes);
  for (const [i, id] of portion.ids.entries()) idIntoBytes(id, ids, i * idBytes);
  const written: Written = {
    ids: ids.toString("base64"),
    codes: portion.codes.map((code) => outcomeCodes[code]).join(""),
    consumers: portion.isConsumers.map((is) => (is ? "1" : "0")).join(""),
    ...(portion.codes.includes("intended") ? { died: portion.diedAtMs } : {}),
    after,
  };
  return JSON.stringify(written);
};

export const decodePortion = (number: number, text: string): { readonly portion: Portion; readonly after: unknown } => {
  const { ids, codes, consumers, died, after } = JSON.parse(text) as Written;
  const bytes = Buffer.from(ids, "base64");
  const found = Array.from(codes, (_, i) => idFromBytes(bytes, i * idBytes));
  const portion: Portion = {
    number,
    ids: found,
    diedAtMs: (died ?? []) as readonly EpochMs[],
    isConsumers: Array.from(consumers, (flag) => flag === "1"),
    codes: Array.from(codes, (letter) => codeOfLetter.get(letter) ?? "unknown"),
  };
  return { portion, after };
};

/** Zero-padded, so that documents list in order. */
export const portionName = (job: string, number: number): string => `${job}/${String(number).padStart(7, "0")}`;

// --- tokens ----------------------------------------------------------------------------------------------------------

/** What a redriven message carries: the job, the portion and the place in it, so that news finds it without a search. */
export type Token = { readonly job: string; readonly portion: number; readonly index: number };

export const tokenText = ({ job, portion, index }: Token): string => `${job}.${portion}.${index}`;

export const readToken = (text: string): Token | undefined => {
  const match = /^([a-z0-9]{1,24})\.(\d{1,7})\.(\d{1,5})$/.exec(text);
  return match === null ? undefined : { job: match[1]!, portion: Number(match[2]), index: Number(match[3]) };
};
