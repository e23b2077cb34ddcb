import { afterEach, describe, expect, it } from "vitest";
import { type MessageId, shardOf } from "../message/id.ts";
import { epochMs } from "../message/time.ts";
import { decodeEnvelope } from "../retry/envelope-codec.ts";
import { armFailpoints } from "../runtime/failpoint.ts";
import { Crash, DeadWorld, t0 } from "./testing/dead-world.ts";

// Promises about bringing back the dead: exactly the chosen ones, each once, and never against a closed door.

afterEach(() => armFailpoints(() => undefined));

/** No canary, no ramp: for tests about something else. */
const plain = { canary: 0, ramp: 0, rate: 1_000 };

const sorted = (ids: readonly string[]): string[] => [...ids].sort();

describe("a redrive", () => {
  it("RT-20: brings back exactly what matched and was dead when it began", async () => {
    const world = new DeadWorld();
    world.process("a");
    const chosen = await world.buryMany(700);
    const others = await world.buryMany(300, { topic: "refunds" });
    world.nowMs += 10;
    const { id } = await world.start({ filter: { topic: "orders" }, ...plain });
    // These fit, and die while it runs.
    const later = await world.buryMany(50);
    const job = await world.untilState(id, "finished");
    expect(sorted(world.sentIds)).toEqual(sorted(chosen));
    expect(job.counts).toMatchObject({ sent: 700, succeeded: 700, pending: 0, skipped: 0 });
    expect(job.selected).toBe(true);
    for (const one of [...others, ...later]) expect((await world.get(one))?.state).toBe("dead");
  });

  for (const point of ["redrive-intended", "redrive-revived"] as const) {
    it(`RT-20: after crashes at "${point}" others take over, and still each is sent once`, async () => {
      const world = new DeadWorld();
      const chosen = await world.buryMany(1_500);
      world.nowMs += 10;
      let left = 4;
      let passes = 0;
      armFailpoints((reached) => {
        if (reached !== point || ++passes % 2 === 0 || left === 0) return;
        left--;
        throw new Crash();
      });
      for (let i = 0; i < 5; i++) world.process(`node-${i}`);
      const { id } = await world.start({ ...plain, rate: 100 });
      const job = await world.untilState(id, "finished");
      expect(left).toBe(0);
      expect(world.processes.size).toBe(1);
      expect(sorted(world.sentIds)).toEqual(sorted(chosen));
      expect(job.counts).toMatchObject({ sent: 1_500, succeeded: 1_500, pending: 0, skipped: 0 });
    });
  }

  it("RT-20: a page of which only some were taken is read again after a crash, without passing over or counting twice", async () => {
    const world = new DeadWorld(1);
    const chosen = await world.buryMany(60);
    const capped: MessageId[] = [];
    for (let i = 0; i < 60; i++) capped.push(await world.bury(world.consumers({ replays: 3 })));
    world.nowMs += 10;
    let reached = 0;
    armFailpoints((point) => {
      if (point === "redrive-revived" && ++reached % 3 === 0 && world.processes.size > 1) throw new Crash();
    });
    for (let i = 0; i < 8; i++) world.process(`node-${i}`);
    const { id } = await world.start({ ...plain, rate: 10 });
    const job = await world.untilState(id, "finished");
    expect(sorted(world.sentIds)).toEqual(sorted(chosen));
    expect(job.counts).toMatchObject({ sent: 60, skipped: 60 });
  });

  it("two redrives of one selection, in two processes at once, send each message once", async () => {
    const world = new DeadWorld();
    world.process("a");
    world.process("b");
    const chosen = await world.buryMany(2_000);
    world.nowMs += 10;
    const jobs = [await world.start(plain), await world.start(plain)];
    // One is at each: the second process could not have both.
    for (const { id } of jobs) await world.untilState(id, "finished");
    expect(sorted(world.sentIds)).toEqual(sorted(chosen));
    const counts = await Promise.all(jobs.map(async ({ id }) => (await world.show(id)).counts));
    expect(counts[0]!.sent + counts[1]!.sent).toBe(2_000);
  });

  it("who comes second to a death that the other has brought back, and that died again, leaves it alone", async () => {
    const world = new DeadWorld();
    world.process("a");
    const [one] = await world.buryMany(1);
    world.nowMs += 10;
    const first = await world.start(plain);
    const second = await world.start({ ...plain, filter: { ids: [one] } });
    world.outcomeOf = () => "dead";
    await world.untilState(first.id, "finished");
    await world.untilState(second.id, "finished");
    expect(world.sentIds).toEqual([one]);
  });

  it("RT-21: what was brought back three times stays dead, whoever it is that loops", async () => {
    const world = new DeadWorld();
    world.process("a");
    const lone = await world.bury(world.message());
    const byConsumer = await world.bury(world.consumers());
    world.outcomeOf = () => "dead";
    for (let i = 0; i < 5; i++) {
      world.nowMs += 10_000;
      const { id } = await world.start(plain);
      const job = await world.untilState(id, "finished");
      expect(job.counts).toMatchObject(i < 3 ? { sent: 2, deadAgain: 2 } : { sent: 0, skipped: 2 });
      const { items } = await world.room.outcomes(id, {}, "default");
      if (i >= 3) expect(items.map(({ outcome }) => outcome)).toEqual(["replay-cap", "replay-cap"]);
    }
    expect(world.sentIds.filter((id) => id === lone)).toHaveLength(3);
    expect(world.sentIds.filter((id) => id === byConsumer)).toHaveLength(3);
  });

  it("RT-22: while the source still fails it stops after its canary, and the rest stays dead", async () => {
    const world = new DeadWorld();
    world.process("a");
    await world.buryMany(500);
    world.nowMs += 10;
    world.outcomeOf = () => "dead";
    const { id } = await world.start({ canary: 5, ramp: 0, rate: 1_000 });
    const job = await world.untilState(id, "stopped");
    expect(world.sent).toHaveLength(5);
    expect(job.note).toMatch(/of the canary 5 of 5 failed \(100 %\)/);
    await world.pass(60_000);
    expect(world.sent).toHaveLength(5);
    // Mended, and resumed: goes on where it was. The five lie behind its beginning and are another redrive's.
    world.outcomeOf = () => "delivered";
    await world.command(id, "resume");
    await world.untilState(id, "finished");
    expect(world.sent).toHaveLength(500);
  });

  /** Of a job whose canary of two fails, with a hundred to go. */
  const failing = async (...nodes: string[]) => {
    const world = new DeadWorld();
    for (const node of nodes) world.process(node);
    await world.buryMany(100);
    world.nowMs += 10;
    world.outcomeOf = () => "dead";
    const { id } = await world.start({ canary: 2, ramp: 0, rate: 10 });
    const stops = async () => (await world.room.audit(undefined, 100)).items.filter(({ action }) => action === "stop");
    return { world, id, stops };
  };

  it("that it stopped itself, and why, stands in the audit: each stop once", async () => {
    const { world, id, stops } = await failing("a", "b");
    const { note, since } = await world.untilState(id, "stopped");
    await world.pass(60_000);
    const first = { at: since, action: "stop", by: "escapement", reason: note, what: "", redrive: id };
    expect(await stops()).toEqual([first]);
    await world.command(id, "resume");
    const second = await world.untilState(id, "stopped");
    await world.pass(60_000);
    expect(await stops()).toEqual([{ ...first, at: second.since, reason: second.note }, first]);
    expect(second.note).toMatch(/of the last outcomes/);
  });

  for (const command of ["none", "resume", "cancel"] as const) {
    it(`a stop is in the audit once, though its process dies before it says so, and then comes: ${command}`, async () => {
      const { world, id, stops } = await failing("a");
      armFailpoints((point) => {
        if (point === "redrive-stopped") throw new Crash();
      });
      const { note } = await world.untilState(id, "stopped");
      await world.pass(2_000);
      expect(world.processes.size).toBe(0);
      expect(await stops()).toEqual([]);
      armFailpoints(() => undefined);
      world.outcomeOf = () => "delivered";
      if (command !== "none") await world.command(id, command);
      world.process("b");
      world.process("c");
      await world.pass(60_000);
      expect((await stops()).map(({ by, reason, redrive }) => [by, reason, redrive])).toEqual([
        ["escapement", note, id],
      ]);
      expect((await world.show(id)).state).toBe({ none: "stopped", resume: "finished", cancel: "canceled" }[command]);
    });
  }

  it("a stop is in the audit once, though its process dies right after it said so", async () => {
    const { world, id, stops } = await failing("a");
    const { write } = world.documents;
    world.documents.write = async (kind, name, ...rest) => {
      const written = await write.call(world.documents, kind, name, ...rest);
      if (kind === "dead-audit") throw new Crash();
      return written;
    };
    await world.untilState(id, "stopped");
    await world.pass(2_000);
    expect(world.processes.size).toBe(0);
    world.documents.write = write;
    expect(await stops()).toHaveLength(1);
    world.process("b");
    await world.pass(60_000);
    expect(await stops()).toHaveLength(1);
  });

  it("a command that comes before its stop is written down holds, and the audit knows of no stop", async () => {
    const { world, id, stops } = await failing("a");
    const { write } = world.documents;
    let isPaused = false;
    world.documents.write = async (kind, name, body, expected) => {
      if (kind === "redrive" && !isPaused && JSON.parse(body).state === "stopped") {
        isPaused = true;
        await world.command(id, "pause");
      }
      return write.call(world.documents, kind, name, body, expected);
    };
    await world.pass(60_000);
    expect(isPaused).toBe(true);
    expect((await world.show(id)).state).toBe("paused");
    expect(await stops()).toEqual([]);
  });

  it("RT-22: a source that breaks half-way stops it, though most went well", async () => {
    const world = new DeadWorld();
    world.process("a");
    await world.buryMany(1_600);
    world.nowMs += 10;
    world.outcomeOf = () => (world.sent.length > 700 ? "dead" : "delivered");
    const { id } = await world.start({ ...plain, rate: 100 });
    const job = await world.untilState(id, "stopped");
    expect(job.note).toMatch(/of the last outcomes \d+ of 200 failed/);
    // 20 of 200 make it stop; until they are known, some seconds' worth goes on.
    expect(job.counts.deadAgain).toBeGreaterThan(20);
    expect(world.sent.length).toBeLessThan(1_300);
  });

  it("RT-27: what is canceled after it was brought back is not sent", async () => {
    const world = new DeadWorld();
    world.process("a");
    const ids = await world.buryMany(10);
    world.nowMs += 10;
    const { id } = await world.start({ ...plain, rate: 4 });
    await world.pass(100);
    const waiting = (await Promise.all(ids.map((one) => world.get(one)))).filter((one) => one?.state === "scheduled");
    expect(waiting.length).toBeGreaterThan(2);
    const taken = waiting.at(-1)!.id;
    const [result] = await world.store.cancel(shardOf(taken, 4), [taken], epochMs(world.nowMs));
    expect(result?.outcome).toBe("done");
    const job = await world.untilState(id, "finished");
    expect(world.sentIds).not.toContain(taken);
    expect(job.counts).toMatchObject({ sent: 10, succeeded: 9, canceled: 1 });
  });

  it("goes at its rate: so many a second, from a tenth of it in a straight line", async () => {
    const world = new DeadWorld();
    world.process("a");
    world.stepMs = 25;
    await world.buryMany(1_800);
    world.nowMs += 10;
    const { id } = await world.start({ canary: 0, rate: 200, ramp: "5s" });
    await world.untilState(id, "finished");
    const first = world.sent[0]!.atMs;
    const within = (fromMs: number, untilMs: number) =>
      world.sent.filter(({ atMs }) => atMs - first >= fromMs && atMs - first < untilMs).length;
    // In the first second of the ramp 20 + 36/2, in its last about 180 + 18/2.
    expect(within(0, 1_000)).toBeGreaterThanOrEqual(30);
    expect(within(0, 1_000)).toBeLessThanOrEqual(50);
    expect(within(4_000, 5_000)).toBeGreaterThan(165);
    for (let s = 6; s < 10; s++) {
      expect(within(s * 1_000, (s + 1) * 1_000)).toBeGreaterThanOrEqual(195);
      expect(within(s * 1_000, (s + 1) * 1_000)).toBeLessThanOrEqual(205);
    }
  });

  it("pauses within two seconds, resumes where it was, and canceled it ends", async () => {
    const world = new DeadWorld();
    world.process("a");
    const chosen = await world.buryMany(1_000);
    world.nowMs += 10;
    const { id } = await world.start({ ...plain, rate: 100 });
    await world.pass(3_000);
    await world.command(id, "pause");
    await world.pass(2_500);
    const paused = world.sent.length;
    expect(paused).toBeLessThan(600);
    await world.pass(30_000);
    expect(world.sent).toHaveLength(paused);
    expect((await world.show(id)).counts).toMatchObject({ sent: paused, succeeded: paused });
    await world.command(id, "resume");
    await world.pass(2_000);
    expect(world.sent.length).toBeGreaterThan(paused);
    await world.command(id, "cancel");
    await world.pass(60_000);
    expect(world.sent.length).toBeLessThan(1_000);
    expect(new Set(world.sentIds).size).toBe(world.sent.length);
    const job = await world.show(id);
    expect(job.state).toBe("canceled");
    await expect(world.command(id, "resume")).rejects.toMatchObject({ code: "too_late" });
    // What it did not come to can be another's.
    world.nowMs += 10;
    await world.untilState((await world.start(plain)).id, "finished");
    expect(sorted(world.sentIds)).toEqual(sorted(chosen));
  });

  it("paused between writing down and bringing back, it brings back nothing until it is resumed", async () => {
    const world = new DeadWorld();
    const chosen = await world.buryMany(50);
    world.nowMs += 10;
    const { id } = await world.start({ ...plain, rate: 100 });
    armFailpoints((point) => {
      if (point === "redrive-intended") throw new Crash();
    });
    world.process("a");
    await world.pass(1_000);
    expect(world.processes.size).toBe(0);
    armFailpoints(() => undefined);
    await world.command(id, "pause");
    world.process("b");
    await world.pass(60_000);
    expect(world.sent).toEqual([]);
    await world.command(id, "resume");
    await world.untilState(id, "finished");
    expect(sorted(world.sentIds)).toEqual(sorted(chosen));
  });
});

describe("a consumer's dead", () => {
  it("comes back to its group's own retry topic: attempts anew, history kept, one replay more", async () => {
    const world = new DeadWorld();
    const { reports } = world.process("a");
    const dead = world.consumers({ originMessageGroup: "g7" });
    await world.bury(dead);
    world.nowMs += 10;
    const { id } = await world.start({ filter: { group: "billing" }, ...plain });
    await world.pass(3_000);
    const [{ message }] = world.sent as [(typeof world.sent)[number]];
    expect(message.topic).toBe("ESC_RETRY_billing");
    expect(message.body).toEqual(dead.body);
    const decoded = decodeEnvelope(message.properties.get("ESC_RETRY")!);
    if (!decoded.ok) throw new Error(decoded.reason);
    expect(decoded.envelope).toMatchObject({ attempt: 0, crashes: 0, replays: 1, hop: 4, originMessageGroup: "g7" });
    expect(decoded.envelope.history).toHaveLength(1);
    expect(decoded.envelope.firstFailedAtMs).toBeUndefined();
    expect(message.properties.has("ESC_REDRIVE")).toBe(false);
    // It is delivered to the topic; whether that helped only the consumer knows.
    expect((await world.show(id)).counts).toMatchObject({ sent: 1, succeeded: 0, pending: 1 });
    reports.succeeded(decoded.envelope.redrive!);
    expect((await world.untilState(id, "finished")).counts).toMatchObject({ sent: 1, succeeded: 1, pending: 0 });
  });

  it("that fails again is counted as soon as its envelope passes, and as what it ends as", async () => {
    const world = new DeadWorld();
    world.process("a");
    const { reports } = world.process("b");
    for (let i = 0; i < 3; i++) await world.bury(world.consumers());
    world.nowMs += 10;
    const { id } = await world.start({ ...plain, stopAbove: 100 });
    await world.pass(3_000);
    const tokens = world.sent.map(({ message }) => {
      const decoded = decodeEnvelope(message.properties.get("ESC_RETRY")!);
      return decoded.ok ? decoded.envelope.redrive! : "";
    });
    for (const token of tokens) reports.failed(token, false);
    await world.pass(4_000);
    expect((await world.show(id)).counts).toMatchObject({ failed: 3, pending: 0 });
    // As consumers tell it with their sync.
    await reports.outcomes([
      { job: tokens[0]!, message: "any", outcome: "succeeded" },
      { job: tokens[1]!, message: "any", outcome: "dead" },
    ]);
    reports.failed("nonsense", true);
    reports.failed(`${id}.99.0`, true);
    await world.pass(4_000);
    // News that comes late changes nothing that is final.
    reports.failed(tokens[0]!, true);
    await world.pass(4_000);
    expect((await world.show(id)).counts).toMatchObject({ succeeded: 1, deadAgain: 1, failed: 1 });
    expect((await world.show(id)).state).toBe("settling");
  });

  it("a canary of which nothing is heard is no success: it stops, and resume goes on", async () => {
    const world = new DeadWorld();
    world.process("a");
    for (let i = 0; i < 30; i++) await world.bury(world.consumers());
    world.nowMs += 10;
    const { id } = await world.start({ canary: 3, canaryWait: "20s", ramp: 0, rate: 100 });
    const job = await world.untilState(id, "stopped");
    expect(world.sent).toHaveLength(3);
    expect(job.note).toMatch(/nothing was heard of the canary's 3 in time/);
    await world.command(id, "resume");
    await world.pass(10_000);
    expect(world.sent).toHaveLength(30);
  });

  it("can be changed on its way back, but not by accident", async () => {
    const world = new DeadWorld();
    world.process("a");
    await world.bury(world.consumers());
    world.nowMs += 10;
    const edit = { topic: "payments-mended", properties: { color: "blue" }, body: "mended" };
    await expect(world.start({ edit })).rejects.toMatchObject({ code: "invalid_field", field: "allowEdit" });
    const { id } = await world.start({ ...plain, edit, allowEdit: true });
    expect((await world.untilState(id, "finished")).counts).toMatchObject({ sent: 1, succeeded: 1 });
    const [{ message }] = world.sent as [(typeof world.sent)[number]];
    expect([message.topic, message.body.toString()]).toEqual(["payments-mended", "mended"]);
    expect(message.properties.get("color")).toBe("blue");
    expect(message.properties.has("ESC_RETRY")).toBe(false);
  });
});

describe("what is asked about it", () => {
  it("a dry run counts, shows some, and changes nothing", async () => {
    const world = new DeadWorld();
    world.process("a");
    const ids = await world.buryMany(40);
    await world.bury(world.consumers({ replays: 3 }));
    await world.bury(world.message({ topic: "ESC_INGEST" }));
    const reply = await world.room.redrive({ filter: {}, dryRun: true }, "default");
    if (!("dryRun" in reply)) throw new Error("it began");
    expect(reply).toMatchObject({
      matched: 40,
      skipped: { "replay-cap": 1, "own-topic": 1 },
      scanned: 42,
      complete: true,
    });
    expect(reply.sample).toHaveLength(5);
    await world.pass(60_000);
    expect(world.sent).toEqual([]);
    for (const id of ids) expect(await world.get(id)).toMatchObject({ state: "dead", endedAtMs: t0 });
    expect((await world.room.redrives(undefined, 10, "default")).items).toEqual([]);
  });

  it("who, when, why and what stand in the audit, the newest first", async () => {
    const world = new DeadWorld();
    world.process("a");
    await world.buryMany(3);
    world.nowMs += 10;
    const { id } = await world.start({ filter: { topic: "orders" }, by: "ada", reason: "the topic is there now" });
    world.nowMs += 10;
    await world.command(id, "pause");
    world.nowMs += 10;
    await world.room.discard({ filter: {}, by: "bob", reason: "test data" }, "default");
    const { items } = await world.room.audit(undefined, 10);
    expect(items.map(({ action, by, count }) => [action, by, count])).toEqual([
      ["discard", "bob", 3],
      ["pause", "unknown", undefined],
      ["redrive", "ada", undefined],
    ]);
    expect(items[2]).toMatchObject({
      reason: "the topic is there now",
      what: '{"filter":{"topic":"orders"}}',
      redrive: id,
    });
    expect(world.discarded).toBe(3);
  });

  it("every mistake in a request is told with its path, and unknown jobs by their code", async () => {
    const world = new DeadWorld();
    const refused = world.room.redrive(
      { filter: { topic: "", ids: ["x"] }, rate: -1, ramp: 5e9, colour: 1 },
      "default",
    );
    await expect(refused).rejects.toMatchObject({ code: "invalid_field" });
    const text = await refused.catch((error: Error) => error.message);
    for (const path of ["filter.topic", "filter.ids[0]", "rate", "ramp", "colour", "reason"])
      expect(text).toContain(path);
    await expect(world.room.redrive({}, "default")).rejects.toMatchObject({ code: "missing_field", field: "filter" });
    await expect(world.show("nope")).rejects.toMatchObject({ code: "redrive_not_found" });
    await expect(world.room.redriveOf("../x", "default")).rejects.toMatchObject({ code: "redrive_not_found" });
    const { id } = await world.start({});
    await expect(world.room.redriveOf(id, "another tenant")).rejects.toMatchObject({ code: "redrive_not_found" });
  });
});
