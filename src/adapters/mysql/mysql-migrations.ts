import type { Connection, RowDataPacket } from "mysql2/promise";
import { EscapementError } from "../../message/errors.ts";

/**
 * The tables of this program in somebody's database, and the way from any older version of them to the present one. A
 * step, once released, is never edited. Several processes may start at once: one at a time goes the way, under a lock of
 * the server, which ends with its connection. Statements that change tables commit by themselves, so each step must bear
 * being done twice.
 */
const steps: readonly ((prefix: string) => string)[] = [
  // Names are compared by their bytes, so no collation of the database makes two of them one.
  (prefix) => `CREATE TABLE IF NOT EXISTS ${prefix}document (
    kind VARBINARY(32) NOT NULL,
    name VARBINARY(255) NOT NULL,
    revision BIGINT NOT NULL,
    body MEDIUMBLOB NOT NULL,
    PRIMARY KEY (kind, name)
  ) ENGINE=InnoDB`,
];

/** Beyond, somebody else's migration hangs. */
const lockWaitS = 30;

export const migrate = async (connection: Connection, prefix: string): Promise<void> => {
  const lock = `${prefix}migration`;
  const [[got]] = await connection.query<RowDataPacket[]>("SELECT GET_LOCK(?, ?) AS held", [lock, lockWaitS]);
  if (Number(got?.held) !== 1) {
    throw new EscapementError("store_refusing", `another process has been changing the tables for ${lockWaitS} s`);
  }
  try {
    await connection.query(
      `CREATE TABLE IF NOT EXISTS ${prefix}version (one TINYINT NOT NULL PRIMARY KEY, version INT NOT NULL) ENGINE=InnoDB`,
    );
    const [[found]] = await connection.query<RowDataPacket[]>(`SELECT version FROM ${prefix}version WHERE one = 1`);
    const present = Number(found?.version ?? 0);
    if (present > steps.length) {
      throw new EscapementError(
        "store_refusing",
        `the tables ${prefix}… were written by a newer program (version ${present}, this one knows ${steps.length}): start that program`,
      );
    }
    for (const [i, step] of steps.entries()) {
      if (i < present) continue;
      await connection.query(step(prefix));
      await connection.query(`REPLACE INTO ${prefix}version (one, version) VALUES (1, ?)`, [i + 1]);
    }
  } finally {
    await connection.query("SELECT RELEASE_LOCK(?)", [lock]).catch(() => {});
  }
};
