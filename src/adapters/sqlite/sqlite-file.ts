import { accessSync, closeSync, constants, fsyncSync, mkdirSync, openSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { EscapementError } from "../../message/errors.ts";
import { CommitMark } from "./commit-mark.ts";
import { isLogDamaged } from "./log-check.ts";
import { Reserve, reserveBytesDefault } from "./reserve.ts";
import { migrate, versionOf } from "./schema.ts";
import { sqliteFailure } from "./sqlite-errors.ts";

/**
 * Opening `escapement.db`: the folder, the lock, the settings that durability rests on, the look at the file's health.
 * It knows nothing of messages.
 *
 * The lock is SQLite's own: in exclusive locking mode it holds a lock of the operating system on the file from the
 * first access to the end, so it goes with the process, however that ends. Its other effect is that the log needs no
 * shared-memory file beside it; and that nobody else, not even a reader such as the sqlite3 shell, can look in while
 * the service runs.
 */
export type SqliteFileOptions = {
  /** Created when missing; its parent too. */
  readonly folder: string;
  /** The file grows no larger; beyond it calls answer `store_full`. Default: as the disk allows. */
  readonly fileBytesMax?: number;
  /** Room kept for the day the disk is full. Default: 32 MiB. */
  readonly reserveBytes?: number;
};

export type SqliteFile = {
  readonly db: DatabaseSync;
  readonly path: string;
  readonly mark: CommitMark;
  readonly reserve: Reserve;
  /** Carries the log back into the file and gives up the lock. */
  readonly close: () => void;
};

const databaseName = "escapement.db";

/** Throws `store_refusing` (in use, not writable, damaged, newer) with a sentence that says what to change. */
export const openSqliteFile = ({
  folder,
  fileBytesMax,
  reserveBytes = reserveBytesDefault,
}: SqliteFileOptions): SqliteFile => {
  makeFolder(folder);
  const path = join(folder, databaseName);
  assertWritable(folder, path);
  let db: DatabaseSync | undefined;
  let mark: CommitMark | undefined;
  let reserve: Reserve | undefined;
  const close = () => {
    if (db?.isOpen === true) db.close();
    mark?.close();
    reserve?.close();
    mark = undefined;
    reserve = undefined;
  };
  try {
    db = new DatabaseSync(path, { enableForeignKeyConstraints: false });
    db.exec("PRAGMA locking_mode = EXCLUSIVE");
    // Before the first access, which would take over the log as far as it is whole and forget the rest.
    if (isLogDamaged(`${path}-wal`)) throw damagedFile(`${path}-wal`);
    const version = versionOf(db, path);
    // Can be chosen for an empty file only; said again, it would write.
    if (version === 0) db.exec("PRAGMA auto_vacuum = INCREMENTAL");
    db.exec("PRAGMA journal_mode = WAL");
    // FULL: every commit waits for its fsync. With NORMAL a power cut would take back what was acknowledged.
    db.exec("PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;");
    db.exec(`PRAGMA wal_autocheckpoint = ${logPages}; PRAGMA journal_size_limit = ${logBytesKept};`);
    db.exec(`PRAGMA cache_size = -${cacheKib};`);
    if (fileBytesMax !== undefined) db.exec(`PRAGMA max_page_count = ${Math.ceil(fileBytesMax / pageBytes)};`);
    assertSettings(db, path);
    assertHealthy(db, path);
    mark = new CommitMark(`${path}-mark`);
    assertComplete(version === 0 ? 0 : lastCommitOf(db), mark.read(), path);
    reserve = new Reserve(`${path}-reserve`, reserveBytes);
    migrate(db, version);
    return { db, path, mark, reserve, close };
  } catch (error) {
    close();
    throw sqliteFailure(error, path);
  }
};

/** SQLite's default since 3.12; set here only to count with. */
export const pageBytes = 4_096;
/** The log is written back every 16 MiB: fewer, longer pauses wrote the hot pages less often; a commit pays for it. */
const logPages = 4_096;
/** A burst may make the log larger; it is cut back to this afterwards. */
const logBytesKept = 64 * 1024 * 1024;
/** Holds the states and the due index of some hundred thousand messages. */
const cacheKib = 32 * 1024;
/** Looking at every page took 1.5 s for 400 MB in memory; of a larger file only the small tables are looked at. */
const wholeCheckBytesMax = 256 * 1024 * 1024;

const makeFolder = (folder: string): void => {
  try {
    if (mkdirSync(folder, { recursive: true }) === undefined) return;
    // A new folder is only sure to be there after a power cut when its parent was synced.
    const parent = openSync(dirname(resolve(folder)), "r");
    fsyncSync(parent);
    closeSync(parent);
  } catch (error) {
    throw notUsable(`the folder ${folder} cannot be made (${codeOf(error)})`);
  }
};

/** Asked beforehand: SQLite opens what it may not write for reading, and later answers with an input/output error. */
const assertWritable = (folder: string, path: string): void => {
  for (const place of [folder, path, `${path}-mark`]) {
    try {
      accessSync(place, constants.R_OK | constants.W_OK);
    } catch (error) {
      if (codeOf(error) === "ENOENT") continue; // a file, before its first opening
      throw notUsable(`${place} cannot be written (${codeOf(error)})`);
    }
  }
};

const notUsable = (what: string): EscapementError =>
  new EscapementError("store_refusing", `${what}: use a folder that this user may write to (DATA_DIR, --data).`);

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : "an unknown error";

/** SQLite answers a setting that it could not take with the old one, and no error. */
const assertSettings = (db: DatabaseSync, path: string): void => {
  const wanted = { journal_mode: "wal", locking_mode: "exclusive", synchronous: 2, auto_vacuum: 2 };
  for (const [name, value] of Object.entries(wanted)) {
    const found = pragmaValue(db, name);
    if (found === value) continue;
    throw new EscapementError(
      "store_refusing",
      `${path} has ${name} ${found}, must be ${value}: use a folder on a local disk, and no file of another program.`,
    );
  }
};

const assertHealthy = (db: DatabaseSync, path: string): void => {
  const bytes = (pragmaValue(db, "page_count") as number) * pageBytes;
  const checks = bytes <= wholeCheckBytesMax ? ["quick_check(1)"] : ["quick_check(lease)", "quick_check(head)"];
  for (const check of checks) {
    const found = pragmaValue(db, check);
    if (found === "ok") continue;
    throw damagedFile(path);
  }
};

const lastCommitOf = (db: DatabaseSync): number =>
  db.prepare("SELECT value FROM meta WHERE name = 'commit'").get()!.value as number;

const assertComplete = (commit: number, marked: number, path: string): void => {
  if (commit >= marked) return;
  throw new EscapementError(
    "store_refusing",
    `${path} ends with commit ${commit}, but commit ${marked} was acknowledged: its log was cut off or removed, or it is an older copy. Restore the folder from a backup; to go on without what is missing, delete ${path}-mark.`,
  );
};

const damagedFile = (path: string): EscapementError =>
  new EscapementError(
    "store_refusing",
    `${path} is damaged: stop, keep a copy of the folder, and restore it from a backup or with sqlite3's .recover.`,
  );

/** The first column of a pragma's first row. */
export const pragmaValue = (db: DatabaseSync, pragma: string): unknown =>
  Object.values(db.prepare(`PRAGMA ${pragma}`).get() ?? {})[0];
