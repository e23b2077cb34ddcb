import { expect } from "vitest";
import { Prng } from "../../../../test/sim/prng.ts";
import { readRecord } from "../progress-record.ts";
import { MemoryLog } from "./memory-log.ts";
import { Stage } from "./stage.ts";

/** A day that ends suddenly, with what its journal held whenever something was answered. */
const eventfulDay = async (seed: number) => {
  const random = new Prng(seed);
  const stage = new Stage(seed);
  stage.queueCount = 2;
  const acknowledged = new Map<string, number>();
  const out: { id: string; handle: string }[] = [];
  /** Each delivery with the journal's length before and after it. */
  const delivered: { readonly id: string; readonly before: number; readonly after: number }[] = [];
  for (let i = 0; i < 40; i++) {
    const messageGroup = random.chance(0.5) ? random.pick(["a", "b"]) : undefined;
    const queueId = messageGroup === "b" ? 1 : 0;
    await stage.send(`${i}`, { queueId, ...(messageGroup === undefined ? {} : { messageGroup }) });
  }
  for (let i = 0; i < 60 && acknowledged.size < 30; i++) {
    const before = stage.journal.records.length;
    const got = await stage.pop({ max: random.whole(1, 4), invisibleMs: 200 });
    const after = stage.journal.records.length;
    for (const { message, handle } of got) {
      out.push({ id: message.messageId, handle });
      delivered.push({ id: message.messageId, before, after });
    }
    const [some] = out.splice(random.whole(0, Math.max(0, out.length - 1)), 1);
    if (some === undefined) continue;
    if (random.chance(0.2)) await stage.deliveries.changeInvisible("g", "t", some.handle, random.whole(0, 100));
    const [result] = await stage.time.now(stage.deliveries.acknowledge("g", "t", [some.handle]));
    if (result === "ok" && !acknowledged.has(some.id)) acknowledged.set(some.id, stage.journal.records.length);
    await stage.time.pass(random.whole(0, 20));
  }
  expect(acknowledged.size).toBeGreaterThan(10);
  return { stage, acknowledged, delivered };
};

/** All that a group still gets, with the attempt at which it comes first. */
const whatComes = async (stage: Stage): Promise<Map<string, number>> => {
  const came = new Map<string, number>();
  for (let empty = 0; empty < 2; ) {
    const got = await stage.pop();
    for (const { message, attempt } of got) {
      if (!came.has(message.messageId)) came.set(message.messageId, attempt);
    }
    await stage.ack(got);
    if (got.length > 0) continue;
    empty++;
    await stage.time.pass(200);
  }
  return came;
};

const sorted = (ids: Iterable<string>): string[] => [...ids].sort((a, b) => Number(a) - Number(b));
const all = Array.from({ length: 40 }, (_, i) => `${i}`);

/** Whatever the journal's last record is, exactly what was not acknowledged by then comes again. */
export const cutEverywhere = async (seed: number): Promise<void> => {
  const { stage, acknowledged, delivered } = await eventfulDay(seed);
  const { records } = stage.journal;
  expect(records.length).toBeGreaterThan(30);
  for (let cut = 0; cut <= records.length; cut++) {
    stage.start(MemoryLog.of(records.slice(0, cut)));
    const open = all.filter((id) => (acknowledged.get(id) ?? Infinity) > cut);
    const came = await whatComes(stage);
    expect(sorted(came.keys()), `cut after ${cut}`).toEqual(sorted(open));
    for (const [id, attempt] of came) {
      const ofIt = delivered.filter((delivery) => delivery.id === id);
      const counted = ofIt.filter(({ after }) => after <= cut).length;
      // A delivery from two queues is two records.
      const perhaps = ofIt.filter(({ before }) => before < cut).length;
      expect(attempt, `attempt of ${id}, cut after ${cut}`).toBeGreaterThan(counted);
      expect(attempt, `attempt of ${id}, cut after ${cut}`).toBeLessThanOrEqual(perhaps + 1);
    }
  }
};

/** Whichever record is damaged, no message is lost, and of the acknowledged only those come again that it named. */
export const damageEverywhere = async (seed: number): Promise<void> => {
  const { stage, acknowledged } = await eventfulDay(seed);
  const { records } = stage.journal;
  for (let hole = 0; hole < records.length; hole++) {
    const damaged = readRecord(records[hole]!.record);
    stage.start(MemoryLog.of(records.filter((_, i) => i !== hole)));
    const came = await whatComes(stage);
    expect(
      all.filter((id) => !came.has(id) && !acknowledged.has(id)),
      `lost by hole ${hole}`,
    ).toEqual([]);
    const again = [...came.keys()].filter((id) => acknowledged.has(id));
    expect(again, `again by hole ${hole}`).toHaveLength(damaged.kind === "done" ? damaged.offsets.length : 0);
  }
};
