import { epochMs, formatInstant } from "../../../src/message/time.ts";
import type { RedriveReply } from "../../../src/wire/dead.ts";
import type { Cluster } from "../cluster.ts";
import type { Ledger } from "../ledger.ts";
import type { Prng } from "../prng.ts";
import { epochStartMs, type World } from "../world.ts";
import type { ConsumerOptions } from "./options.ts";

/**
 * People who bring the dead back: jobs over what is dead at that moment, two of them at a time where the seed says so,
 * paused and resumed, with service processes that die while they run.
 */
export type Job = {
  readonly code: string | undefined;
  /** Dead when it was asked for, by what they died of. */
  readonly deadThen: ReadonlyMap<string, string>;
  readonly askedMs: number;
  id: string | undefined;
  last: RedriveReply | undefined;
};

/** One more death that was undone. */
export type Revival = { readonly id: string; readonly diedAtMs: number; readonly atMs: number; readonly job: string };

export class Redrives {
  readonly jobs: Job[] = [];
  readonly #parts: RedriveParts;
  readonly #random: Prng;

  constructor(parts: RedriveParts) {
    this.#parts = parts;
    this.#random = parts.world.random.fork("redrives");
  }

  /** One whose first messages all failed stops itself. */
  get areOver(): boolean {
    return this.jobs.every(({ id, last }) => id === undefined || ["finished", "stopped"].includes(last?.state ?? ""));
  }

  /** Nothing is said of a job whose beginning nobody heard of: it may run or not. */
  async run(deadNow: () => Promise<ReadonlyMap<string, string>>): Promise<void> {
    const { world, cluster, options } = this.#parts;
    const random = this.#random;
    const deadThen = await deadNow();
    const codes = [...new Set(deadThen.values())];
    if (codes.length === 0) return;
    // At the same moment, so that both select what neither has brought back.
    const begun = Array.from({ length: options.troubles.redrives }, () => {
      const code = random.chance(0.4) ? random.pick(codes) : undefined;
      return this.#begin({ code, deadThen, askedMs: world.nowMs, id: undefined, last: undefined });
    });
    await world.run(world.nowMs + answerMs, () => begun.every(({ isOver }) => isOver));
    if (options.mood === "stormy") {
      const crashes = random.whole(0, 2);
      for (let i = 0; i < crashes; i++) {
        const machine = random.pick(cluster.machines);
        world.after(random.between(50, 4_000), undefined, () => cluster.crash(machine, random.between(50, 1_000)));
      }
    }
    if (random.chance(0.3)) await this.#pauseAndResume();
    const untilMs = world.nowMs + overAfterMs;
    while (!this.areOver && world.nowMs < untilMs) {
      await world.run(world.nowMs + 500);
      for (const job of this.jobs) await this.#look(job);
    }
  }

  #begin(job: Job): Call<unknown> {
    const { world } = this.#parts;
    const random = this.#random;
    this.jobs.push(job);
    const request = {
      filter: {
        ...(job.code === undefined ? {} : { code: job.code }),
        // A second start must not take what died again meanwhile.
        until: formatInstant(epochMs(Math.floor(epochStartMs + job.askedMs) + 1)),
      },
      reason: "the cause is mended",
      rate: random.pick([20, 200]),
      ramp: 0,
      canary: random.pick([0, 0, 2]),
      canaryWait: "1s",
      stopAbove: 100,
      outcomeWait: random.pick(["2s", "6s"]),
    };
    return this.#call(async (dead) => {
      const reply = await dead.redrive(request, "default");
      if (!("id" in reply)) return;
      job.id = reply.id;
      job.last = reply;
      world.trace.mark("operator", `begins redrive ${job.id} of ${job.code ?? "all the dead"}`);
    });
  }

  async #pauseAndResume(): Promise<void> {
    const { world } = this.#parts;
    const [job] = this.jobs;
    if (job?.id === undefined) return;
    const id = job.id;
    await this.#ask((dead) => dead.command(id, "pause", undefined, "default"));
    world.trace.mark("operator", `pauses redrive ${id}`);
    await world.run(world.nowMs + this.#random.between(100, 3_000));
    // Until it is heard: a job that stays paused would never be over.
    for (let tries = 0; tries < 20; tries++) {
      const reply = await this.#ask((dead) => dead.command(id, "resume", undefined, "default"));
      if (reply !== undefined) break;
    }
    world.trace.mark("operator", `resumes redrive ${id}`);
  }

  async #look(job: Job): Promise<void> {
    const { id } = job;
    if (id === undefined) return;
    job.last = (await this.#ask((dead) => dead.redriveOf(id, "default"))) ?? job.last;
  }

  /** Undefined when nobody answered in time, or the answer was a refusal. */
  async #ask<T>(call: (dead: DeadRoom) => Promise<T>): Promise<T | undefined> {
    const { world } = this.#parts;
    const asked = this.#call(call);
    await world.run(world.nowMs + (asked.isOver ? 200 : answerMs), () => asked.isOver && asked.answer !== undefined);
    return asked.answer;
  }

  #call<T>(call: (dead: DeadRoom) => Promise<T>): Call<T> {
    const { world, cluster } = this.#parts;
    const { answering } = cluster;
    const asked: Call<T> = { isOver: answering.length === 0, answer: undefined };
    if (asked.isOver) return asked;
    const process = this.#random.pick(answering);
    world.after(0.2, process.node, () => {
      const work = call(process.service.retry.dead);
      process.requests.add(work);
      work
        .finally(() => process.requests.delete(work))
        .then(
          (reply) => {
            asked.answer = reply;
            asked.isOver = true;
          },
          () => {
            asked.isOver = true;
          },
        );
    });
    return asked;
  }
}

type Call<T> = { isOver: boolean; answer: T | undefined };
type DeadRoom = Cluster["running"][number]["service"]["retry"]["dead"];

const answerMs = 3_000;
/** Longer than a job's rates, waits, and a lease of a process that died with it. */
const overAfterMs = 60_000;

export type RedriveParts = {
  readonly world: World;
  readonly ledger: Ledger;
  readonly cluster: Cluster;
  readonly options: ConsumerOptions;
};
