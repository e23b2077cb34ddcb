import { randomBytes } from "node:crypto";
import { timeOrderedId } from "../../message/id.ts";
import type { DelayedMessage } from "../../message/message.ts";
import { epochMs } from "../../message/time.ts";
import type { Clock } from "../../runtime/clock.ts";
import { silentLog } from "../../runtime/log.ts";
import { machineClock, systemTimers } from "../system/system-time.ts";

/** What the tests of this folder share: real time, no log, messages and names that nobody else uses. */
export const systemClock: Clock = {
  nowMs: () => epochMs(machineClock.wallMs()),
  monotonicMs: machineClock.monotonicMs,
};

export const parts = { clock: systemClock, timers: systemTimers, log: silentLog };

export const uniqueName = (what: string): string => `${what}_${randomBytes(6).toString("hex")}`;

export const aMessage = (over: Partial<DelayedMessage> = {}): DelayedMessage => {
  const nowMs = systemClock.nowMs();
  return {
    id: timeOrderedId(nowMs, randomBytes(10), 0),
    tenant: "default",
    topic: "orders",
    keys: [],
    properties: new Map(),
    body: Buffer.from("hello"),
    deliverAtMs: nowMs,
    acceptedAtMs: nowMs,
    attempt: 1,
    ...over,
  };
};

/** Waits until `condition` holds; fails the test with `what` when it does not in time. */
export const eventually = async (what: string, withinMs: number, condition: () => boolean): Promise<void> => {
  const endMs = systemClock.monotonicMs() + withinMs;
  while (!condition()) {
    if (systemClock.monotonicMs() > endMs) throw new Error(`not within ${withinMs} ms: ${what}`);
    await pauseMs(20);
  }
};

export const pauseMs = (durationMs: number): Promise<void> =>
  new Promise((resolve) => systemTimers.after(durationMs, resolve));
