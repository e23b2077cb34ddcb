import type { DatabaseSync } from "node:sqlite";
import { EscapementError } from "../../message/errors.ts";

/**
 * The tables of `escapement.db` and the way from any older version of them to the present one. A step, once released,
 * is never edited: a new version is a new step at the end. There is no way back; a newer file is refused.
 *
 * | table      | key                  | holds                                                                       |
 * |------------|----------------------|-----------------------------------------------------------------------------|
 * | `entry`    | id                   | the state of every known message, ended ones too until they are forgotten    |
 * | `record`   | seq                  | delay/record.ts bytes and their checksum, of what waits, is out or is dead    |
 * | `due`      | shard, due, seq      | what waits or is out; of a message group only its head                       |
 * | `claim`    | n                    | what one call claimed and what of it is still out: 20 bytes a message         |
 * | `ended`    | n                    | what ended in one commit and is to be forgotten: 16 bytes a message           |
 * | `dead`     | shard, ended_at, seq | the dead, with their reasons                                                 |
 * | `head`     | grp                  | the head of each message group                                               |
 * | `follower` | grp, due, seq        | those behind it                                                              |
 * | `lease`    | shard                | its epoch                                                                    |
 * | `waiting`  | shard, lane          | how many wait, for people                                                    |
 * | `lane`     | lane                 | a lane's topic, for the same people                                          |
 * | `topic`    | name                 | topics that were once seen to exist                                          |
 * | `document` | kind, name           | the small things that outlive a process: policies, breakers, jobs            |
 * | `meta`     | name                 | the number of shards, fixed with the first start, and of the last commit     |
 *
 * `seq` is the number of acceptance. It is the record's row number, so that a record is found without an index and new
 * ones are appended. State and record are apart because a body may have megabytes and a state changes often. What is
 * out, and what ended, come and go by the hundred, so a row of theirs stands for many messages: a write for each in
 * its own place of a tree was most of what claiming and settling cost.
 */
const migrations: readonly string[] = [
  `
  CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
  INSERT INTO meta (name, value) VALUES ('commit', 0);
  CREATE TABLE entry (
    id BLOB PRIMARY KEY,
    shard INTEGER NOT NULL,
    state INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    due INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    expire_at INTEGER,
    grp BLOB,
    ended_at INTEGER,
    forget_at INTEGER
  ) WITHOUT ROWID;
  CREATE TABLE record (seq INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, bytes BLOB NOT NULL);
  CREATE TABLE due (
    shard INTEGER NOT NULL,
    due INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    id BLOB NOT NULL,
    lane INTEGER NOT NULL,
    PRIMARY KEY (shard, due, seq)
  ) WITHOUT ROWID;
  CREATE TABLE claim (
    n INTEGER PRIMARY KEY,
    shard INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    messages BLOB NOT NULL
  );
  CREATE TABLE ended (n INTEGER PRIMARY KEY, forget_at INTEGER NOT NULL, ids BLOB NOT NULL);
  CREATE TABLE dead (
    shard INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    id BLOB NOT NULL,
    code TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (shard, ended_at, seq)
  ) WITHOUT ROWID;
  CREATE TABLE head (grp BLOB PRIMARY KEY, id BLOB NOT NULL, due INTEGER NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE follower (
    grp BLOB NOT NULL,
    due INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    id BLOB NOT NULL,
    PRIMARY KEY (grp, due, seq)
  ) WITHOUT ROWID;
  CREATE TABLE lease (shard INTEGER PRIMARY KEY, epoch INTEGER NOT NULL);
  CREATE TABLE waiting (
    shard INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    PRIMARY KEY (shard, lane)
  ) WITHOUT ROWID;
  CREATE TABLE lane (lane INTEGER PRIMARY KEY, topic TEXT NOT NULL);
  CREATE TABLE topic (name TEXT PRIMARY KEY) WITHOUT ROWID;
  `,
  // With row numbers: a body may have a quarter of a megabyte, and the tree of the names stays small.
  `
  CREATE TABLE document (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, name)
  );
  `,
];

const schemaVersion = migrations.length;

/** The version of the file's tables; 0 for a file that has none. A newer one than this program knows is refused. */
export const versionOf = (db: DatabaseSync, path: string): number => {
  const found = Object.values(db.prepare("PRAGMA user_version").get()!)[0] as number;
  if (found <= schemaVersion) return found;
  throw new EscapementError(
    "store_refusing",
    `${path} was written by a newer program (version ${found} of its tables, this one knows ${schemaVersion}): start that program, or use another folder (DATA_DIR, --data).`,
  );
};

/** Brings the file to the present version, each step in a transaction of its own. */
export const migrate = (db: DatabaseSync, fromVersion: number): void => {
  for (let version = fromVersion; version < schemaVersion; version++) {
    db.exec(`BEGIN; ${migrations[version]!} PRAGMA user_version = ${version + 1}; COMMIT;`);
  }
};
