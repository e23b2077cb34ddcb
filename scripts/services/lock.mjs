// One starter at a time per folder. The lock is a file naming its holder (pid and birth, see process.mjs); a holder
// that is gone does not hold. Breaking a dead lock is a rename, which only one of several waiters can win.

import { randomUUID } from "node:crypto";
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { bornOf, isAlive } from "./process.mjs";

const waitMaxMs = 300_000; // a first start downloads 100 MB behind this lock (24 s measured); five minutes is a slow line

function holderOf(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    return error.code === "ENOENT" ? undefined : { pid: 0, born: "unreadable", token: "unreadable" };
  }
}

function tryTake(file, mine) {
  const draft = `${file}.${mine.token}`;
  writeFileSync(draft, JSON.stringify(mine));
  try {
    linkSync(draft, file); // atomic, and the file is never seen half written
    return true;
  } catch (error) {
    if (error.code === "EEXIST") return false;
    throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

function breakDead(file, dead, mine) {
  const aside = `${file}.${mine.token}.dead`;
  try {
    renameSync(file, aside);
  } catch (error) {
    if (error.code === "ENOENT") return;
    throw error;
  }
  if (holderOf(aside)?.token !== dead.token) {
    // Another waiter was quicker and a living holder's file was moved: put it back unless a third already stands there.
    try {
      linkSync(aside, file);
    } catch {}
  }
  rmSync(aside, { force: true });
}

export async function withLock(folder, act) {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, "lock");
  const mine = { pid: process.pid, born: bornOf(process.pid), token: randomUUID() };
  const endMs = performance.now() + waitMaxMs;
  while (!tryTake(file, mine)) {
    const holder = holderOf(file);
    if (holder === undefined) continue;
    if (!isAlive(holder)) breakDead(file, holder, mine);
    else if (performance.now() > endMs) {
      throw new Error(
        `${file} has been held by process ${holder.pid} for five minutes; end that process and try again`,
      );
    } else await pause(50);
  }
  try {
    return await act();
  } finally {
    if (holderOf(file)?.token === mine.token) rmSync(file, { force: true });
  }
}
