import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { scheduler } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { services } from "../../test/services.ts";
import { RedisDelayStore } from "../adapters/redis/redis-delay-store.ts";
import { RedisDocumentStore } from "../adapters/redis/redis-document-store.ts";
import { systemRandom } from "../adapters/system/system-random.ts";
import { shardOf } from "../message/id.ts";
import { epochMs } from "../message/time.ts";
import { DeadRoom } from "./dead-room.ts";
import { DeadWorld } from "./testing/dead-world.ts";

// Redrives by two processes on one real Redis. What they send stands in a file, a line for each.

const count = 3_000;
const clock = { nowMs: () => epochMs(Date.now()), monotonicMs: () => performance.now() };
const folder = mkdtempSync(join(tmpdir(), "redrive-"));
const sentFile = join(folder, "sent");
const namespace = `redrive-${process.pid}`;
const children: ChildProcess[] = [];
let address: string;
let store: RedisDelayStore;
let documents: RedisDocumentStore;
let room: DeadRoom;

beforeAll(async () => {
  address = (await services()).redis.url;
  store = await RedisDelayStore.open({ address, namespace, clock, shardCount: 8, durability: "everysec" });
  documents = await RedisDocumentStore.open({ address, namespace });
  const none = { ownTopics: new Set<string>(), discarded: () => {}, wake: () => {} };
  room = new DeadRoom({ store, documents, clock, random: systemRandom, ...none });
  writeFileSync(sentFile, "");
});

afterAll(async () => {
  for (const child of children) {
    child.send("stop");
    await once(child, "exit");
  }
  await store?.close();
  await documents?.close();
  rmSync(folder, { recursive: true });
});

describe("on a real Redis", () => {
  it("two redrives of one selection in two processes send each message once", async () => {
    const world = new DeadWorld();
    const ids: string[] = [];
    for (let i = 0; i < count; i++) {
      const message = world.message();
      const reason = { code: "topic_not_found", detail: "none" };
      await store.bury(shardOf(message.id, 8), [{ message, reason }], epochMs(Date.now() - 1_000));
      ids.push(message.id);
    }
    const wish = { filter: {}, reason: "twice at once", canary: 0, ramp: 0, rate: 1_000 };
    const jobs = [await room.redrive(wish, "default"), await room.redrive(wish, "default")];
    const entry = new URL("./testing/redrive-process.ts", import.meta.url);
    for (const node of ["a", "b"]) children.push(fork(entry, [address, namespace, sentFile, node]));
    await Promise.all(children.map((child) => once(child, "message")));
    const states = async () => Promise.all(jobs.map((job) => room.redriveOf("dryRun" in job ? "" : job.id, "default")));
    let now = await states();
    for (const untilMs = Date.now() + 60_000; Date.now() < untilMs; now = await states()) {
      if (now.every(({ state }) => state === "finished")) break;
      await scheduler.wait(200);
    }
    expect(now.map(({ state }) => state)).toEqual(["finished", "finished"]);
    expect(now[0]!.counts.succeeded + now[1]!.counts.succeeded).toBe(count);
    const sent = readFileSync(sentFile, "utf8").trim().split("\n");
    expect(sent.map((line) => line.split(" ")[0]).sort()).toEqual(ids.sort());
    expect(new Set(sent.map((line) => line.split(" ")[1]))).toEqual(new Set(["a", "b"]));
  }, 120_000);
});
