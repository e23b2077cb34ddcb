import type { DatabaseFailure } from "../../tx/database.port.ts";

/**
 * What an error of MySQL or MariaDB means, found through whatever a library has put around it: mysql2 and Knex throw the
 * server's error itself, TypeORM keeps it as `driverError`, Drizzle as `cause`, Prisma writes its number into `meta`.
 * Decided by the server's numbers, which never change.
 */
export const classifyMysqlFailure = (error: unknown): DatabaseFailure => {
  const errno = errnoOf(error);
  if (errno === undefined) return "no-answer";
  return byNumber.get(errno) ?? (sessionEnded.has(errno) ? "no-answer" : "refused");
};

const byNumber: ReadonlyMap<number, DatabaseFailure> = new Map<number, DatabaseFailure>([
  [1213, "deadlock"],
  [1205, "lock-wait-timeout"],
  [3572, "lock-wait-timeout"], // NOWAIT
  [1062, "duplicate"],
  [1305, "savepoint-gone"],
  [1146, "table-missing"],
]);

/** The server ends the session, so its last word on a COMMIT is not to be relied on: shutdown, killed, aborted. */
const sessionEnded: ReadonlySet<number> = new Set([
  1053, 1077, 1078, 1152, 1158, 1159, 1160, 1161, 1184, 1317, 1927, 4031,
]);

/** Undefined when no server has said anything. */
export const errnoOf = (error: unknown, depth = 0): number | undefined => {
  if (typeof error !== "object" || error === null || depth > 6) return undefined;
  const { errno, sqlState, code, meta, cause, driverError, parent, original } = error as Record<string, unknown>;
  // Node's own errors (ECONNRESET) have a negative errno; mysql2 marks what the server said with its SQL state.
  if (typeof errno === "number" && errno > 0 && (typeof sqlState === "string" || errno >= 1000)) return errno;
  if (code === "P2034") return 1213;
  if (typeof meta === "object" && meta !== null) {
    const said = Number((meta as { code?: unknown }).code);
    if (Number.isInteger(said) && said >= 1000) return said;
  }
  for (const inner of [cause, driverError, parent, original, meta]) {
    const found = errnoOf(inner, depth + 1);
    if (found !== undefined) return found;
  }
  return undefined;
};
