import { describe, expect, it } from "vitest";
import { MemoryDocumentStore } from "../adapters/memory/memory-document-store.ts";
import { SqliteBench } from "../adapters/sqlite/testing/sqlite-bench.ts";
import type { DocumentStore } from "../documents/document-store.port.ts";
import { day, type EpochMs, epochMs, hour } from "../message/time.ts";
import { silentLog } from "../runtime/log.ts";
import { AuditKeeping, auditKept } from "./audit-keeping.ts";
import { encodePortion, portionName } from "./portion.ts";
import { kinds, openJob } from "./redrive-documents.ts";
import { moved, newJob, type RedriveJob } from "./redrive-job.ts";
import { keptNoLonger, type OverJob, RedriveKeeping, redrivesKept } from "./redrive-keeping.ts";
import { readRedrive } from "./redrive-plan.ts";
import { DeadWorld, t0 } from "./testing/dead-world.ts";

// Promises about how long redrives and the audit are kept.

/** Until it has nothing more to do for now. */
const pass = async (keeping: { runOnce(): Promise<number> }): Promise<void> => {
  while ((await keeping.runOnce()) < hour);
};

const namesOf = async (documents: DocumentStore, kind: string): Promise<string[]> =>
  (await documents.list(kind, { limit: 1_000 })).map(({ name }) => name);

describe("redrives that are over", () => {
  it("go 30 days after their end with all that hangs on them; what may go on stays", async () => {
    const world = new DeadWorld();
    world.process("a");
    const { documents } = world;
    const keeping = new RedriveKeeping({ documents, clock: world.clock, log: silentLog, owned: () => [0] });
    await world.buryMany(60);
    world.nowMs += 10;
    world.outcomeOf = () => "dead";
    const stopped = await world.start({ canary: 2, ramp: 0 });
    await world.untilState(stopped.id, "stopped");
    world.outcomeOf = () => "delivered";
    const canceled = await world.start({ canary: 0, ramp: 0, rate: 10 });
    await world.pass(2_000);
    await world.command(canceled.id, "cancel");
    const paused = await world.start({ canary: 0, ramp: 0, rate: 10 });
    await world.pass(1_500);
    await world.command(paused.id, "pause");
    await world.pass(700_000);
    const finished = await world.start({ canary: 0, ramp: 0, filter: { topic: "none" } });
    const { since } = await world.untilState(finished.id, "finished");
    await world.pass(3_000);
    // News for the canceled one that nobody took any more.
    await documents.write(kinds.report, `${canceled.id}/a`, "0.0.+", 0);
    const young = Date.parse(since) + 30 * day - 1;

    world.nowMs = Date.parse((await world.show(canceled.id)).since) + 30 * day;
    expect(world.nowMs).toBeLessThan(young);
    await pass(keeping);
    expect(await namesOf(documents, kinds.job)).toEqual([stopped.id, paused.id, finished.id]);
    world.nowMs = young;
    await pass(keeping);
    expect(await namesOf(documents, kinds.job)).toHaveLength(3);
    world.nowMs += 1;
    await pass(keeping);
    expect(await namesOf(documents, kinds.job)).toEqual([stopped.id, paused.id]);
    await expect(world.show(finished.id)).rejects.toMatchObject({ code: "redrive_not_found" });
    expect(await namesOf(documents, kinds.report)).toEqual([]);
    expect(new Set((await namesOf(documents, kinds.portion)).map((name) => name.split("/")[0]))).toEqual(
      new Set([stopped.id, paused.id]),
    );
    // What was done is still in the audit.
    expect((await world.room.audit(undefined, 100)).items.map(({ redrive }) => redrive)).toContain(canceled.id);

    world.nowMs += 365 * day;
    await pass(keeping);
    for (const { id } of [stopped, paused]) await world.command(id, "resume");
    expect((await world.untilState(paused.id, "finished")).counts.succeeded).toBeGreaterThan(0);
    expect((await world.untilState(stopped.id, "finished")).counts.sent).toBeGreaterThanOrEqual(2);
    expect((await world.store.dead(0, undefined, 100)).items).toHaveLength(0);
  });

  it("of a canceled one late news is not written down, and of a stopped one only some", async () => {
    const world = new DeadWorld();
    const { reports } = world.process("a");
    for (let i = 0; i < 40; i++) await world.bury(world.consumers());
    world.nowMs += 10;
    const { id } = await world.start({ canary: 5, canaryWait: "1s", ramp: 0, outcomeWait: "10s" });
    await world.untilState(id, "stopped");
    await world.pass(20_000);
    expect(await namesOf(world.documents, kinds.open)).toEqual([]);
    const tell = async (): Promise<number> => {
      for (let i = 0; i < 30_000; i++) reports.failed(`${id}.0.${i % 5}`, false);
      for (let i = 0; i < 10; i++) await reports.runOnce();
      // All is told or let go.
      expect(await reports.runOnce()).toBe(1_000);
      const [report] = await world.documents.list(kinds.report, { limit: 10 });
      return report?.body.length ?? 0;
    };
    const bytes = await tell();
    expect(bytes).toBeGreaterThan(10);
    expect(await tell()).toBeLessThan(200_000);
    await world.command(id, "resume");
    await world.pass(3_000);
    expect((await world.show(id)).counts.failed).toBe(5);
    await world.command(id, "cancel");
    await world.pass(20_000);
    expect(await namesOf(world.documents, kinds.open)).toEqual([]);
    expect(await tell()).toBe(0);
  });

  it("of one that somebody is at no news is lost, however much comes at once", async () => {
    const world = new DeadWorld();
    const { reports } = world.process("a");
    for (let i = 0; i < 2; i++) await world.bury(world.consumers());
    world.nowMs += 10;
    const { id } = await world.start({ canary: 0, ramp: 0, stopAbove: 100 });
    await world.pass(3_000);
    for (let i = 0; i < 60_000; i++) reports.failed(`${id}.0.0`, false);
    reports.succeeded(`${id}.0.1`);
    // Its owner is slow.
    for (let i = 0; i < 10; i++) await reports.runOnce();
    await world.pass(10_000);
    expect((await world.show(id)).counts).toMatchObject({ failed: 1, succeeded: 1 });
  });

  const over = (count: number, parts: (i: number) => Partial<OverJob> = () => ({})): OverJob[] =>
    Array.from({ length: count }, (_, i) => ({
      id: `job${i}`,
      endedAtMs: epochMs(t0 + i),
      outcomes: 1,
      ...parts(i),
    }));

  it("are a thousand at most, by the order in which they ended", () => {
    expect(keptNoLonger(over(redrivesKept.jobsMax), t0)).toEqual([]);
    expect(keptNoLonger(over(redrivesKept.jobsMax + 2).reverse(), t0)).toEqual(["job0", "job1"]);
    const endedLate = over(redrivesKept.jobsMax + 1, (i) => (i === 0 ? { endedAtMs: epochMs(t0 + hour) } : {}));
    expect(keptNoLonger(endedLate, t0)).toEqual(["job1"]);
  });

  it("hold two million messages at most, but the last one stays whatever it holds", () => {
    const half = redrivesKept.outcomesMax / 2;
    expect(
      keptNoLonger(
        over(2, () => ({ outcomes: half })),
        t0,
      ),
    ).toEqual([]);
    expect(
      keptNoLonger(
        over(4, () => ({ outcomes: half })),
        t0,
      ),
    ).toEqual(["job0", "job1"]);
    expect(
      keptNoLonger(
        over(3, () => ({ outcomes: 9 * half })),
        t0,
      ),
    ).toEqual(["job0", "job1"]);
    expect(
      keptNoLonger(
        over(1, () => ({ outcomes: 9 * half })),
        epochMs(t0 + redrivesKept.ms),
      ),
    ).toEqual(["job0"]);
  });
});

const stores = {
  memory: async () => ({ documents: new MemoryDocumentStore() as DocumentStore, close: async () => {} }),
  sqlite: async () => {
    const bench = new SqliteBench();
    const { documents } = await bench.open();
    return { documents, close: () => bench[Symbol.asyncDispose]() };
  },
};

describe.each(Object.entries(stores))("on %s", (_, open) => {
  const { plan } = readRedrive({ filter: {}, reason: "a test" }, new Set());
  const ended = (id: string, nowMs: EpochMs, state: "finished" | "canceled"): RedriveJob =>
    moved(newJob({ id, tenant: "default", by: "ada", reason: "a test", plan }, 4, t0), state, nowMs);

  it("jobs with many portions go page by page, by whoever owns the first shard, and not while somebody is at them", async () => {
    const { documents, close } = await open();
    const clock = { nowMs: () => epochMs(t0 + redrivesKept.ms), monotonicMs: () => 0 };
    const portion = { number: 0, ids: [], diedAtMs: [], isConsumers: [], codes: [] };
    for (const [i, id] of ["j1", "j10", "j2", "j3"].entries()) {
      const job = ended(id, epochMs(t0 - 2 + i), i === 1 ? "canceled" : "finished");
      await documents.write(kinds.job, id, JSON.stringify(job), 0);
      await documents.write(kinds.report, `${id}/a`, "0.0.+", 0);
      const portions = id === "j1" ? 120 : 3;
      const text = encodePortion(portion, {});
      const written = Array.from({ length: portions }, (_, i) =>
        documents.write(kinds.portion, portionName(id, i), text, 0),
      );
      await Promise.all(written);
    }
    await openJob(documents, "j2");
    let owned = [1, 2, 3];
    const keepings = [0, 1].map(() => new RedriveKeeping({ documents, clock, log: silentLog, owned: () => owned }));
    await keepings[0]!.runOnce();
    expect(await namesOf(documents, kinds.job)).toHaveLength(4);
    owned = [0];
    // Gone half-way, and another goes on from what it finds.
    for (let i = 0; i < 3; i++) await keepings[0]!.runOnce();
    const left = (await namesOf(documents, kinds.portion)).filter((name) => name.startsWith("j1/"));
    expect(left.length).toBeGreaterThan(0);
    expect(left.length).toBeLessThan(120);
    expect(await namesOf(documents, kinds.job)).toContain("j1");
    await Promise.all(keepings.map(pass));
    expect(await namesOf(documents, kinds.job)).toEqual(["j2", "j3"]);
    expect(await namesOf(documents, kinds.report)).toEqual(["j2/a", "j3/a"]);
    expect(await namesOf(documents, kinds.portion)).toEqual(
      ["j2", "j3"].flatMap((id) => [0, 1, 2].map((i) => portionName(id, i))),
    );
    await close();
  });

  it("entries of the audit go after a year, and no earlier", async () => {
    const { documents, close } = await open();
    let nowMs: number = t0;
    const clock = { nowMs: () => epochMs(nowMs), monotonicMs: () => nowMs };
    const keeping = new AuditKeeping({ documents, clock, log: silentLog, owned: () => [0] });
    const inverted = (atMs: number) => `${String(1e15 - atMs).padStart(16, "0")}-x`;
    const written = Array.from({ length: 450 }, (_, i) => documents.write(kinds.audit, inverted(t0 + i), "{}", 0));
    await Promise.all(written);
    nowMs = t0 + auditKept.ms;
    await pass(keeping);
    expect(await namesOf(documents, kinds.audit)).toHaveLength(450);
    nowMs += 440;
    await pass(keeping);
    expect(await namesOf(documents, kinds.audit)).toEqual(Array.from({ length: 10 }, (_, i) => inverted(t0 + 449 - i)));
    await close();
  });
});

it("the audit holds a hundred thousand entries at most, the newest", async () => {
  // A list that is as long as it is said to be; the store's own is slower to fill than this test may take.
  const removed: string[] = [];
  let given = 0;
  const documents: Pick<DocumentStore, "list" | "remove"> = {
    list: async (_kind, { limit }) => {
      const page = Array.from({ length: Math.min(limit, 100_003 - given) }, (_, i) => ({
        name: `${String(1e15 - t0 + given + i).padStart(16, "0")}-x`,
        revision: 1,
        body: "{}",
      }));
      given += page.length;
      return page;
    },
    remove: async (_kind, name) => removed.push(name) > 0,
  };
  const clock = { nowMs: () => t0, monotonicMs: () => 0 };
  await pass(new AuditKeeping({ documents: documents as DocumentStore, clock, log: silentLog, owned: () => [0] }));
  expect(removed.map((name) => 1e15 - Number(name.slice(0, 16)) - t0)).toEqual([-100_000, -100_001, -100_002]);
});
