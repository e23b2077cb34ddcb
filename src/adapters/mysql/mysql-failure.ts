import type { DatabaseFailure } from "../../tx/database.port.ts";

/**
 * What an error of MySQL or MariaDB means to a transaction (to stored documents: document-errors.ts), decided by the
 * server's numbers, which never change. They are found through whatever a library has put around them: mysql2 and Knex
 * throw the server's error itself, TypeORM keeps it as `driverError`, Drizzle as `cause`, Prisma as text: in
 * `meta.code`, or from version 7 on in `meta.driverAdapterError.cause.originalCode`.
 */
export const classifyMysqlFailure = (error: unknown): DatabaseFailure => {
  const errno = errnoOf(error);
  if (errno === undefined) return "no-answer";
  return byNumber.get(errno) ?? (sessionEnded.has(errno) ? "no-answer" : "refused");
};

const byNumber: ReadonlyMap<number, DatabaseFailure> = new Map<number, DatabaseFailure>([
  [1213, "deadlock"],
  // A write to a row that has changed since the snapshot rolls everything back, too (MariaDB, innodb_snapshot_isolation).
  [1020, "deadlock"],
  // Too many locks for the buffer pool: unlike with other refusals, InnoDB takes the whole transaction back.
  [1206, "deadlock"],
  // At COMMIT, by group replication: somebody else's transaction was certified first.
  [3101, "deadlock"],
  [1205, "lock-wait-timeout"],
  [3572, "lock-wait-timeout"], // NOWAIT
  [1062, "duplicate"],
  [1305, "savepoint-gone"],
  [1146, "table-missing"],
]);

/** The server ends the session, so its last word on a COMMIT is not to be relied on: shutdown, killed, aborted, offline. */
export const sessionEnded: ReadonlySet<number> = new Set([
  1053, 1077, 1078, 1152, 1158, 1159, 1160, 1161, 1184, 1317, 1927, 3032, 3168, 3169, 4031,
]);

/** The server, or this session, takes no writes: a primary that has become a replica, or never was one. */
export const readOnly: ReadonlySet<number> = new Set([1290, 1792, 1836]);

/** Undefined when no server has said anything. */
export const errnoOf = (error: unknown): number | undefined => {
  for (const { errno, sqlState, code, originalCode, meta } of causesOf(error)) {
    // Node's own errors (ECONNRESET) have a negative errno; mysql2 marks what the server said with its SQL state.
    if (typeof errno === "number" && errno > 0 && (typeof sqlState === "string" || errno >= 1000)) return errno;
    if (code === "P2034") return 1213;
    for (const text of [originalCode, fieldsOf(meta).code]) {
      if (typeof text === "string" && /^\d{4}$/.test(text)) return Number(text);
    }
  }
  return undefined;
};

const wrappings = ["meta", "cause", "driverError", "parent", "original", "driverAdapterError"] as const;

/** The error and what libraries have wrapped it around, from the outside to the inside. */
export function* causesOf(error: unknown, depth = 0): Generator<Readonly<Record<string, unknown>>> {
  if (typeof error !== "object" || error === null || depth > 6) return;
  const fields = fieldsOf(error);
  yield fields;
  for (const name of wrappings) yield* causesOf(fields[name], depth + 1);
}

const fieldsOf = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
