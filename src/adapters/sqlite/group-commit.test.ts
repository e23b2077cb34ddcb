import { DatabaseSync } from "node:sqlite";
import { beforeEach, describe, expect, it } from "vitest";
import { systemTimers } from "../system/system-time.ts";
import { GroupCommit } from "./group-commit.ts";

/** Result codes of SQLite, as node:sqlite reports them. */
const failure = (errcode: number) => Object.assign(new Error("as SQLite says it"), { errcode });
const [inputOutput, corrupt, full] = [10, 11, 13];

describe("the group commit", () => {
  let db: DatabaseSync;
  let commits: GroupCommit;
  let chores: () => void;
  let undone: number;
  beforeEach(() => {
    db = new DatabaseSync(":memory:");
    db.exec("CREATE TABLE t (a INTEGER PRIMARY KEY)");
    chores = () => {};
    undone = 0;
    commits = new GroupCommit({
      db,
      path: "escapement.db",
      timers: systemTimers,
      beforeCommit: () => chores(),
      undone: () => undone++,
      afterCommit: () => {},
    });
  });
  const rows = () =>
    db
      .prepare("SELECT a FROM t ORDER BY a")
      .all()
      .map(({ a }) => a);
  const add = (a: number) =>
    commits.do({ writes: true, run: () => Number(db.prepare("INSERT INTO t VALUES (?)").run(a).changes) });
  const fail = (error: unknown, before = () => {}) =>
    commits.do({
      writes: true,
      run: () => {
        db.exec("INSERT INTO t VALUES (99)");
        before();
        throw error;
      },
    });

  it("takes back a failed call alone, whether it came alone or with others", async () => {
    await expect(fail(failure(full))).rejects.toMatchObject({ code: "store_full" });
    expect([rows(), undone]).toEqual([[], 2]);
    const answers = await Promise.allSettled([add(1), fail(failure(full)), add(2)]);
    expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(rows()).toEqual([1, 2]);
  });

  it("tries each call alone when SQLite has rolled the whole transaction back", async () => {
    const answers = await Promise.allSettled([add(1), fail(failure(full), () => db.exec("ROLLBACK")), add(2)]);
    expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(answers[1]).toMatchObject({ reason: { code: "store_full" } });
    expect(rows()).toEqual([1, 2]);
  });

  it("answers nobody before the commit, and tells only of what was committed", async () => {
    const told: string[] = [];
    const committed = commits.do({
      writes: true,
      run: () => db.isTransaction,
      committed: (inside) => told.push(`${inside} ${db.isTransaction}`),
    });
    const failed = commits.do({
      writes: true,
      run: () => {
        throw failure(full);
      },
      committed: () => told.push("never"),
    });
    await Promise.allSettled([committed, failed]);
    expect(told).toEqual(["true false"]);
  });

  it("a commit that fails is nobody's success", async () => {
    db.exec("PRAGMA foreign_keys = ON; CREATE TABLE child (a REFERENCES t (a) DEFERRABLE INITIALLY DEFERRED)");
    const orphan = () => commits.do({ writes: true, run: () => db.exec("INSERT INTO child VALUES (7)") });
    await expect(orphan()).rejects.toMatchObject({ code: "internal" });
    // Tried alone after the common commit failed, the innocent ones succeed.
    const answers = await Promise.allSettled([add(1), orphan(), add(2)]);
    expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(rows()).toEqual([1, 2]);
    expect(db.isTransaction).toBe(false);
  });

  it("chores that fail undo only themselves", async () => {
    chores = () => {
      db.exec("INSERT INTO t VALUES (50)");
      throw failure(full);
    };
    expect(await add(1)).toBe(1);
    expect(rows()).toEqual([1]);
  });

  it("remembers damage for good, and a failed write until one succeeds", async () => {
    await expect(fail(failure(corrupt))).rejects.toMatchObject({ code: "store_refusing" });
    expect(commits.damage).toContain("is damaged");
    await expect(fail(failure(inputOutput))).rejects.toMatchObject({ code: "store_unavailable" });
    expect(commits.lastWriteFailure).toContain("look at the disk");
    await add(1);
    expect(commits.lastWriteFailure).toBeUndefined();
    expect(commits.damage).toContain("is damaged");
  });

  it("lets a caller's own error through as a bug, with nothing of it stored", async () => {
    await expect(fail(new TypeError("a mistake"))).rejects.toMatchObject({ code: "internal", message: "a mistake" });
    expect(rows()).toEqual([]);
  });
});
