import { EscapementError } from "../../message/errors.ts";

/**
 * What a failure of SQLite means to us. Its texts name tables and columns, never values, so nothing a user sent can
 * leave through them; even so the sentence is made from the result code.
 *
 * What surprised us: an error while committing leaves the effect unknown (frames may lie in the log although the fsync
 * failed, and be found again after a crash), so input and output errors are `store_unavailable`, not a refusal.
 */
export const sqliteFailure = (error: unknown, place: string): EscapementError => {
  if (error instanceof EscapementError) return error;
  const result = resultCodeOf(error);
  if (result === undefined) {
    return new EscapementError("internal", error instanceof Error ? error.message : "an unknown failure", {
      cause: error,
    });
  }
  const refusal = refusals[result & 0xff];
  if (refusal !== undefined) return new EscapementError(refusal.code, `${place} ${refusal.sentence}`);
  return new EscapementError("internal", `SQLite answers ${result} for ${place}`, { cause: error });
};

/** The file itself is not what was written: repeating the call cannot help. */
export const isDamage = (error: unknown): boolean => {
  const result = resultCodeOf(error);
  return result !== undefined && damages.has(result & 0xff);
};

/** SQLite's extended result code; undefined for an error that is not SQLite's. */
const resultCodeOf = (error: unknown): number | undefined =>
  error instanceof Error && "errcode" in error && typeof error.errcode === "number" ? error.errcode : undefined;

const sqlite = {
  perm: 3,
  busy: 5,
  locked: 6,
  noMemory: 7,
  readOnly: 8,
  inputOutput: 10,
  corrupt: 11,
  full: 13,
  cannotOpen: 14,
  auth: 23,
  notADatabase: 26,
} as const;

const damages: ReadonlySet<number> = new Set([sqlite.corrupt, sqlite.notADatabase]);

type Refusal = { readonly code: "store_refusing" | "store_full" | "store_unavailable"; readonly sentence: string };

export const fullSentence =
  "has no room left; nothing was stored. Free space on its disk; it takes messages again by itself.";

const notWritable: Refusal = {
  code: "store_refusing",
  sentence: "cannot be written: give this user the right to write to the folder and the file in it.",
};
const inUse: Refusal = {
  code: "store_refusing",
  sentence: "is open in another process: stop that one, or use another folder (DATA_DIR, --data).",
};
const damaged: Refusal = {
  code: "store_refusing",
  sentence: "is damaged: stop, keep a copy of the folder, and restore it from a backup or with sqlite3's .recover.",
};

const refusals: Readonly<Record<number, Refusal>> = {
  [sqlite.perm]: notWritable,
  [sqlite.readOnly]: notWritable,
  [sqlite.cannotOpen]: notWritable,
  [sqlite.auth]: notWritable,
  [sqlite.busy]: inUse,
  [sqlite.locked]: inUse,
  [sqlite.corrupt]: damaged,
  [sqlite.notADatabase]: damaged,
  [sqlite.full]: { code: "store_full", sentence: fullSentence },
  [sqlite.noMemory]: { code: "store_full", sentence: "cannot get memory; nothing was stored." },
  [sqlite.inputOutput]: {
    code: "store_unavailable",
    sentence: "could not be read or written (an input/output error): look at the disk.",
  },
};
