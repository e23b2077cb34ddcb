import { DatabaseSync } from "node:sqlite";
import { beforeEach, describe, expect, it } from "vitest";
import { EscapementError } from "../../message/errors.ts";
import { type Done, GroupCommit, type Work } from "./group-commit.ts";

/** Result codes of SQLite, as node:sqlite reports them. */
const failure = (errcode: number) => Object.assign(new Error("as SQLite says it"), { errcode });
const [inputOutput, corrupt, full] = [10, 11, 13];

describe("the group commit", () => {
  let db: DatabaseSync;
  let commits: GroupCommit;
  let finish: () => void;
  let chores: () => void;
  let told: string[];
  beforeEach(() => {
    db = new DatabaseSync(":memory:");
    db.exec("CREATE TABLE t (a INTEGER PRIMARY KEY)");
    finish = () => {};
    chores = () => {};
    told = [];
    const tell = (what: string) => () => void told.push(`${what}${db.isTransaction ? ", inside" : ""}`);
    commits = new GroupCommit({
      db,
      path: "escapement.db",
      finish: () => finish(),
      chores: () => chores(),
      undone: tell("undone"),
      sealed: tell("sealed"),
      committed: tell("committed"),
    });
  });
  const rows = () =>
    db
      .prepare("SELECT a FROM t ORDER BY a")
      .all()
      .map(({ a }) => a);
  const add = (a: number): Work<number> => ({
    writes: true,
    run: () => Number(db.prepare("INSERT INTO t VALUES (?)").run(a).changes),
  });
  const fail = (error: unknown, before = () => {}): Work<number> => ({
    writes: true,
    run: () => {
      db.exec("INSERT INTO t VALUES (99)");
      before();
      throw error;
    },
  });
  const codes = (done: readonly Done<unknown>[]) => done.map((one) => ("error" in one ? one.error.code : "done"));

  it("takes back a failed call alone, whether it came alone or with others", () => {
    expect(codes(commits.run([fail(failure(full))]))).toEqual(["store_full"]);
    expect([rows(), told]).toEqual([[], ["undone"]]);
    expect(codes(commits.run([add(1), fail(failure(full)), add(2)]))).toEqual(["done", "store_full", "done"]);
    expect(rows()).toEqual([1, 2]);
  });

  it("tries each call alone when SQLite has rolled the whole transaction back", () => {
    const done = commits.run([add(1), fail(failure(full), () => db.exec("ROLLBACK")), add(2)]);
    expect(codes(done)).toEqual(["done", "store_full", "done"]);
    expect(rows()).toEqual([1, 2]);
  });

  it("who is fenced holds up nobody: there is nothing to take back", () => {
    const fenced: Work<number> = {
      writes: true,
      run: () => {
        throw new EscapementError("fenced", "shard 1 is at epoch 2");
      },
    };
    expect(codes(commits.run([add(1), fenced, add(2)]))).toEqual(["done", "fenced", "done"]);
    expect([rows(), told]).toEqual([
      [1, 2],
      ["sealed, inside", "committed"],
    ]);
  });

  it("tells of a commit when it is over, and only of one that changed something", () => {
    commits.run([{ writes: true, run: () => 0 }]);
    commits.run([{ writes: false, run: () => rows().length }]);
    expect(told).toEqual([]);
    commits.run([add(1)]);
    expect(told).toEqual(["sealed, inside", "committed"]);
    commits.run([fail(failure(full))]);
    expect(told).toEqual(["sealed, inside", "committed", "undone"]);
  });

  it("a commit that fails is nobody's success", () => {
    db.exec("PRAGMA foreign_keys = ON; CREATE TABLE child (a REFERENCES t (a) DEFERRABLE INITIALLY DEFERRED)");
    const orphan: Work<number> = {
      writes: true,
      run: () => {
        db.exec("INSERT INTO child VALUES (7)");
        return 0;
      },
    };
    expect(codes(commits.run([orphan]))).toEqual(["internal"]);
    // Tried alone after the common commit failed, the innocent ones succeed.
    expect(codes(commits.run([add(1), orphan, add(2)]))).toEqual(["done", "internal", "done"]);
    expect(rows()).toEqual([1, 2]);
    expect(db.isTransaction).toBe(false);
  });

  it("what belongs to the transaction fails it; chores that fail undo only themselves", () => {
    finish = () => {
      throw failure(full);
    };
    expect(codes(commits.run([add(1)]))).toEqual(["store_full"]);
    finish = () => {};
    chores = () => {
      db.exec("INSERT INTO t VALUES (50)");
      throw failure(full);
    };
    expect(codes(commits.run([add(1)]))).toEqual(["done"]);
    expect(rows()).toEqual([1]);
  });

  it("remembers damage for good, and a failed write until one succeeds", () => {
    expect(codes(commits.run([fail(failure(corrupt))]))).toEqual(["store_refusing"]);
    expect(commits.damage).toContain("is damaged");
    expect(codes(commits.run([fail(failure(inputOutput))]))).toEqual(["store_unavailable"]);
    expect(commits.lastWriteFailure).toContain("look at the disk");
    commits.run([add(1)]);
    expect(commits.lastWriteFailure).toBeUndefined();
    expect(commits.damage).toContain("is damaged");
  });

  it("lets a caller's own error through as a bug, with nothing of it stored", () => {
    const [one] = commits.run([fail(new TypeError("a mistake"))]);
    expect(one).toMatchObject({ error: { code: "internal", message: "a mistake" } });
    expect(rows()).toEqual([]);
  });
});
