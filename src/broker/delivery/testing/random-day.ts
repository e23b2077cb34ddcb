import { expect } from "vitest";
import { Prng } from "../../../../test/sim/prng.ts";
import type { Delivery } from "../deliveries.port.ts";
import { Stage } from "./stage.ts";

/**
 * Random days of two groups against a model so plain that it can be read: a list of messages, each with what happened
 * to it. The second group wants one tag only.
 */
type Fate = { attempts: number; untilMs: number; handle: string; isDone: boolean };
type Sent = {
  readonly id: string;
  readonly queueId: number;
  readonly tag: string;
  readonly messageGroup: string | undefined;
  readonly fates: Record<string, Fate>;
};

const filters: Record<string, ReadonlySet<string>> = { all: new Set(), some: new Set(["x"]) };
const groups = Object.keys(filters);

class Day {
  readonly stage: Stage;
  readonly random: Prng;
  readonly sent: Sent[] = [];
  /** All handles that ever were, with whose they are. */
  readonly handles: { readonly group: string; readonly handle: string; readonly of: Sent }[] = [];
  deliveries = 0;
  readonly #isTight: boolean;

  constructor(seed: number) {
    this.random = new Prng(seed);
    this.stage = new Stage(seed);
    this.stage.queueCount = 1 + (seed % 3);
    this.stage.attemptsMax = 3;
    this.#isTight = seed % 2 === 1;
    if (this.#isTight) this.stage.limits = { skippedMax: 6, heldMax: 12 };
    this.stage.start();
  }

  get nowMs(): number {
    return this.stage.time.monotonicMs();
  }

  async send(): Promise<void> {
    const messageGroup = this.random.chance(0.5) ? this.random.pick(["a", "b", "c"]) : undefined;
    const queueId = messageGroup?.charCodeAt(0) ?? this.random.whole(0, 9);
    const message = {
      id: `${this.sent.length}`,
      queueId: queueId % this.stage.queueCount,
      tag: this.random.pick(["x", "y"]),
      messageGroup,
    };
    const fates = Object.fromEntries(
      groups.map((group) => [group, { attempts: 0, untilMs: 0, handle: "", isDone: !this.isWanted(group, message) }]),
    );
    this.sent.push({ ...message, fates });
    const { id, ...options } = message;
    await this.stage.send(id, { ...options, ...(messageGroup === undefined ? {} : { messageGroup }) } as never);
  }

  isWanted(group: string, { tag }: { readonly tag: string }): boolean {
    return filters[group]!.size === 0 || filters[group]!.has(tag);
  }

  /** Whether the group may have it now. */
  isOpen(group: string, message: Sent): boolean {
    const { isDone, untilMs } = message.fates[group]!;
    if (isDone || untilMs > this.nowMs) return false;
    const isBehind = (other: Sent) => other.messageGroup === message.messageGroup && !other.fates[group]!.isDone;
    return message.messageGroup === undefined || this.sent.find(isBehind) === message;
  }

  async pop(group: string, max: number, invisibleMs: number): Promise<readonly Delivery[]> {
    const got = await this.stage.pop({ group, max, invisibleMs, filter: { tags: filters[group]! } });
    const anyBuried = this.settleBuried();
    for (const { message, handle, attempt } of got) {
      const sent = this.sent[Number(message.messageId)]!;
      const fate = sent.fates[group]!;
      expect(this.isOpen(group, sent), `${group} may have ${sent.id}`).toBe(true);
      expect(attempt, `attempt of ${sent.id}`).toBe(fate.attempts + 1);
      Object.assign(fate, { attempts: attempt, untilMs: this.nowMs + invisibleMs, handle });
      this.handles.push({ group, handle, of: sent });
      this.deliveries++;
    }
    // At a limit some may have to wait, and what a burial lets go comes to the next poll.
    if (got.length < max && !this.#isTight && !anyBuried) {
      expect(this.sent.find((message) => this.isOpen(group, message))?.id, `${group} did not get`).toBeUndefined();
    }
    return got;
  }

  settleBuried(): boolean {
    const buried = this.stage.buried.splice(0);
    for (const { group, id } of buried) {
      const fate = this.sent[Number(id)]!.fates[group]!;
      expect(fate.isDone, `${id} is buried once`).toBe(false);
      expect(fate.attempts).toBe(this.stage.attemptsMax);
      fate.isDone = true;
    }
    return buried.length > 0;
  }

  isGood(group: string, handle: string, { fates }: Sent): boolean {
    const fate = fates[group]!;
    return !fate.isDone && fate.handle === handle && fate.untilMs > this.nowMs;
  }

  async step(): Promise<void> {
    const { random, stage } = this;
    const group = random.pick(groups);
    const {
      group: owner,
      handle,
      of,
    } = random.chance(0.3) || this.handles.length < 5 ? this.#any() : random.pick(this.handles.slice(-5));
    const dice = random.whole(0, 99);
    if (dice < 30) return this.send();
    if (dice < 50) return void (await this.pop(group, random.whole(1, 5), random.whole(1, 50)));
    if (dice < 75) {
      if (of === undefined) return;
      const good = this.isGood(owner, handle, of);
      // What is done with may be acknowledged by any handle that it ever had: nothing more happens.
      const answer = good || of.fates[owner]!.isDone ? "ok" : "invalid";
      expect(await stage.time.now(stage.deliveries.acknowledge(owner, "t", [handle]))).toEqual([answer]);
      if (good) of.fates[owner]!.isDone = true;
      return;
    }
    if (dice < 85) {
      if (of === undefined) return;
      const invisibleMs = random.whole(0, 30);
      const good = this.isGood(owner, handle, of);
      const fresh = await stage.deliveries.changeInvisible(owner, "t", handle, invisibleMs);
      expect(fresh !== undefined).toBe(good);
      if (fresh === undefined) return;
      Object.assign(of.fates[owner]!, { untilMs: this.nowMs + invisibleMs, handle: fresh });
      this.handles.push({ group: owner, handle: fresh, of });
      return;
    }
    if (dice < 97) return stage.time.pass(random.whole(1, 30));
    stage.start();
  }

  #any(): { group: string; handle: string; of: Sent | undefined } {
    return this.handles.length === 0 ? { group: "all", handle: "", of: undefined } : this.random.pick(this.handles);
  }

  /** Everything is popped and acknowledged until nothing is left. */
  async end(): Promise<void> {
    for (let round = 0; round < 10_000; round++) {
      let any = 0;
      for (const group of groups) {
        const got = await this.pop(group, 4, 100);
        any += got.length;
        await this.stage.ack(got, group);
        for (const { message } of got) this.sent[Number(message.messageId)]!.fates[group]!.isDone = true;
      }
      if (any === 0) await this.stage.time.pass(100);
      if (any === 0 && this.sent.every(({ fates }) => groups.every((group) => fates[group]!.isDone))) return;
    }
    expect.unreachable("something never came");
  }
}

/** Nothing lost, nothing early, nothing after its acknowledgement, attempts by one, heads in order. */
export const liveRandomDay = async (seed: number, steps: number): Promise<void> => {
  const day = new Day(seed);
  for (let i = 0; i < steps; i++) await day.step();
  await day.end();
  expect(day.deliveries).toBeGreaterThan(steps / 5);
  for (const group of groups) {
    expect(day.stage.deliveries.progress(group, "t")).toMatchObject({ waiting: 0, out: 0 });
  }
};
