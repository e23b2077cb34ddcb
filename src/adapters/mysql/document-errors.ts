import { EscapementError } from "../../message/errors.ts";
import { readOnly } from "./mysql-failure.ts";

/**
 * What a failure of MySQL or MariaDB means to whoever stores documents (to a transaction: mysql-failure.ts). The
 * driver's errors carry the statement with its values, so none of them leaves this folder; what is said is made from the
 * numbers. An answer of the server says that nothing was changed; without one nobody knows.
 */
export const documentError = (error: unknown): EscapementError => {
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
    const otherwise = readOnly.has(errno) ? connectToPrimary : "it refused the statement; nothing was changed.";
    const advice = refusals[errno] ?? otherwise;
    return new EscapementError("store_refusing", `MySQL answers ${errno}: ${advice}`);
  }
  const reason = typeof code === "string" && /^[A-Z_]{3,40}$/.test(code) ? code : "the connection was lost";
  return new EscapementError("store_unavailable", `MySQL does not answer: ${reason}`);
};

const connectToPrimary = "it is read only: connect to the primary.";
const fullNumbers: ReadonlySet<number> = new Set([1021, 1114]);

const refusals: Readonly<Record<number, string>> = {
  1040: "it has too many connections.",
  1044: "the user may not use this database.",
  1045: "user or password are wrong (MYSQL_URL).",
  1049: "there is no such database; create it, or name another one in MYSQL_URL.",
  1142: "the user may not run a statement that is needed; see the operations page for the rights.",
  1205: "another transaction holds the row; nothing was changed.",
  1213: "a deadlock; nothing was changed.",
};
