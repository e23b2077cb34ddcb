import type { SqlExecutor } from "../../tx/database.port.ts";
import { TxError } from "../../tx/tx-error.ts";
import { barrierSchema } from "./mysql-barrier.ts";
import { classifyMysqlFailure } from "./mysql-failure.ts";

/**
 * The tables of the outbox and how they came to be. Migrations only go forward, each may be run again after it was cut
 * off, and none is changed once it was released.
 *
 * Two versions of the library share the tables during a rolling upgrade. So a migration says which older library can
 * still work with its result (`usableFrom`): additions with defaults can be used by all; for the rest, the old library
 * says at its start that it is too old instead of losing something.
 *
 * Columns: times are milliseconds since 1970 on the database's clock. `lane` is null for rows without an order. Five
 * indexes are little on a table that is nearly empty; each answers one question of outbox.port.ts.
 */
export type Migration = {
  readonly version: number;
  readonly usableFrom: number;
  readonly statements: readonly string[];
};

export const outboxShards = 16;

const engine = "ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin";

export const migrations: readonly Migration[] = [
  {
    version: 1,
    usableFrom: 1,
    statements: [
      `CREATE TABLE IF NOT EXISTS escapement_outbox (
        id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        shard SMALLINT UNSIGNED NOT NULL,
        next_at BIGINT UNSIGNED NOT NULL,
        lane BIGINT UNSIGNED NULL,
        tx_id BINARY(16) NOT NULL,
        msg_id BINARY(16) NOT NULL,
        attempts INT UNSIGNED NOT NULL DEFAULT 0,
        kind TINYINT UNSIGNED NOT NULL,
        topic VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        deliver_at BIGINT UNSIGNED NULL,
        delay_ms BIGINT UNSIGNED NULL,
        created_at BIGINT UNSIGNED NOT NULL,
        body_bytes INT UNSIGNED NOT NULL,
        head BLOB NOT NULL,
        body MEDIUMBLOB NOT NULL,
        last_error VARCHAR(400) NULL,
        KEY due (shard, next_at, id),
        KEY lane (lane, id),
        KEY tx (tx_id),
        UNIQUE KEY msg (msg_id)
      ) ${engine}`,
      `CREATE TABLE IF NOT EXISTS escapement_outbox_dead (
        id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        tx_id BINARY(16) NOT NULL,
        msg_id BINARY(16) NOT NULL,
        kind TINYINT UNSIGNED NOT NULL,
        topic VARCHAR(127) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
        deliver_at BIGINT UNSIGNED NULL,
        created_at BIGINT UNSIGNED NOT NULL,
        buried_at BIGINT UNSIGNED NOT NULL,
        attempts INT UNSIGNED NOT NULL,
        head BLOB NOT NULL,
        body MEDIUMBLOB NOT NULL,
        reason VARCHAR(400) NOT NULL,
        KEY tx (tx_id),
        KEY buried (buried_at)
      ) ${engine}`,
      `CREATE TABLE IF NOT EXISTS escapement_tx (
        tx_id BINARY(16) NOT NULL PRIMARY KEY,
        outcome TINYINT UNSIGNED NOT NULL,
        at BIGINT UNSIGNED NOT NULL,
        KEY at (at)
      ) ${engine}`,
      `CREATE TABLE IF NOT EXISTS escapement_outbox_shard (
        shard SMALLINT UNSIGNED NOT NULL PRIMARY KEY,
        owner VARCHAR(64) NOT NULL DEFAULT '',
        lease_until BIGINT UNSIGNED NOT NULL DEFAULT 0
      ) ${engine}`,
      `INSERT IGNORE INTO escapement_outbox_shard (shard) VALUES ${Array.from({ length: outboxShards }, (_, shard) => `(${shard})`).join(",")}`,
      `CREATE TABLE IF NOT EXISTS escapement_outbox_relay (
        owner VARCHAR(64) NOT NULL PRIMARY KEY,
        seen_until BIGINT UNSIGNED NOT NULL
      ) ${engine}`,
      `CREATE TABLE IF NOT EXISTS escapement_outbox_lane_lock (bucket SMALLINT UNSIGNED NOT NULL PRIMARY KEY) ${engine}`,
      `CREATE TABLE IF NOT EXISTS escapement_inbox (
        consumer_group VARBINARY(255) NOT NULL,
        message_id VARBINARY(255) NOT NULL,
        at BIGINT UNSIGNED NOT NULL,
        PRIMARY KEY (consumer_group, message_id),
        KEY at (at)
      ) ${engine}`,
      ...barrierSchema,
    ],
  },
];

const newest = migrations.at(-1)!.version;

export type MigrationReport = { readonly from: number; readonly to: number };

/** Brings the tables up to this library's version; tables that are newer are left alone. */
export const migrateOutbox = async (
  sql: SqlExecutor,
  known: readonly Migration[] = migrations,
): Promise<MigrationReport> => {
  // The version is a row: where autocommit is off it would not stay.
  const [session] = await sql.execute("SELECT @@session.autocommit AS autocommit", []);
  const commitsAlone = Number(session?.autocommit) === 1;
  if (!commitsAlone) await sql.execute("SET SESSION autocommit = 1", []);
  try {
    return await migrateLocked(sql, known);
  } finally {
    if (!commitsAlone) await sql.execute("SET SESSION autocommit = 0", []);
  }
};

/** Locks have names of the whole server, of 64 characters at most, which a database's name alone may have. */
const migrationLock = "CONCAT('escapement_migrate_', MD5(DATABASE()))";

const migrateLocked = async (sql: SqlExecutor, known: readonly Migration[]): Promise<MigrationReport> => {
  await sql.execute(
    `CREATE TABLE IF NOT EXISTS escapement_outbox_schema (
      version INT UNSIGNED NOT NULL PRIMARY KEY,
      usable_from INT UNSIGNED NOT NULL
    ) ${engine}`,
    [],
  );
  // One migrator of a database at a time, on whichever machine; released with the connection at the latest.
  const [lock] = await sql.execute(`SELECT GET_LOCK(${migrationLock}, 60) AS got`, []);
  if (Number(lock?.got) !== 1)
    throw new TxError("outbox_missing", "Another migration is at work; try again when it has ended.");
  try {
    const from = (await schemaState(sql))?.version ?? 0;
    for (const { version, usableFrom, statements } of known) {
      if (version <= from) continue;
      for (const statement of statements) await sql.execute(statement, []);
      // DDL commits by itself; so the version is the last thing written, and a cut-off migration is run again.
      await sql.execute("INSERT IGNORE INTO escapement_outbox_schema (version, usable_from) VALUES (?, ?)", [
        version,
        usableFrom,
      ]);
    }
    return { from, to: Math.max(from, known.at(-1)!.version) };
  } finally {
    await sql.execute(`SELECT RELEASE_LOCK(${migrationLock})`, []);
  }
};

/** Throws when this library and these tables cannot work together; answers the number of shards. */
export const checkSchema = async (sql: SqlExecutor, libraryVersion = newest): Promise<number> => {
  const state = await schemaState(sql).catch((error: unknown) => {
    if (classifyMysqlFailure(error) === "table-missing") return undefined;
    throw error;
  });
  const advice = "Run: escapement outbox migrate --mysql <url>";
  if (state === undefined) throw new TxError("outbox_missing", `This database has no outbox. ${advice}`);
  if (state.version < libraryVersion) {
    throw new TxError(
      "outbox_too_old",
      `The outbox has version ${state.version}, this library needs ${libraryVersion}. ${advice}`,
    );
  }
  if (state.usableFrom > libraryVersion) {
    const text = `The outbox has version ${state.version}, which libraries from version ${state.usableFrom} on can use; this one has ${libraryVersion}. Upgrade escapement.`;
    throw new TxError("outbox_too_new", text);
  }
  const [row] = await sql.execute("SELECT COUNT(*) AS shards FROM escapement_outbox_shard", []);
  return Number(row!.shards);
};

const schemaState = async (sql: SqlExecutor): Promise<{ version: number; usableFrom: number } | undefined> => {
  const [row] = await sql.execute(
    "SELECT version, usable_from FROM escapement_outbox_schema ORDER BY version DESC LIMIT 1",
    [],
  );
  return row === undefined ? undefined : { version: Number(row.version), usableFrom: Number(row.usable_from) };
};
