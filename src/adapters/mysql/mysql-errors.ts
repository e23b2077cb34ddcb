import { EscapementError } from "../../message/errors.ts";

/**
 * What a failure of MySQL or MariaDB means to us. The driver's errors carry the statement with its values, so none of
 * them leaves this folder; what is said is made from the numbers. An answer of the server says that nothing was changed;
 * without one nobody knows.
 */
export const mysqlFailure = (error: unknown): EscapementError => {
  if (error instanceof EscapementError) return error;
  const { errno, code, sqlState } = (error ?? {}) as { errno?: unknown; code?: unknown; sqlState?: unknown };
  // Only the server gives a state; the driver's own failures and the system's have a code alone.
  if (typeof errno === "number" && typeof sqlState === "string" && sqlState !== "") {
    if (fullNumbers.has(errno)) {
      return new EscapementError(
        "store_full",
        `MySQL answers ${errno}: its disk or table is full; nothing was stored.`,
      );
    }
    const advice = refusals[errno] ?? "it refused the statement; nothing was changed.";
    return new EscapementError("store_refusing", `MySQL answers ${errno}: ${advice}`);
  }
  const reason = typeof code === "string" && /^[A-Z_]{3,40}$/.test(code) ? code : "the connection was lost";
  return new EscapementError("store_unavailable", `MySQL does not answer: ${reason}`);
};

export const mysqlNumber = {
  duplicate: 1062,
  lockWait: 1205,
  deadlock: 1213,
} as const;

export const errnoOf = (error: unknown): number | undefined => {
  const { errno } = (error ?? {}) as { errno?: unknown };
  return typeof errno === "number" ? errno : undefined;
};

const fullNumbers: ReadonlySet<number> = new Set([1021, 1114]);

const refusals: Readonly<Record<number, string>> = {
  1040: "it has too many connections.",
  1044: "the user may not use this database.",
  1045: "user or password are wrong (MYSQL_URL).",
  1049: "there is no such database; create it, or name another one in MYSQL_URL.",
  1142: "the user may not run a statement that is needed; see the operations page for the rights.",
  1205: "another transaction holds the row; nothing was changed.",
  1213: "a deadlock; nothing was changed.",
  1290: "it is read only: connect to the primary.",
  1792: "it is read only: connect to the primary.",
  1836: "it is read only: connect to the primary.",
};
