import { expect, it } from "vitest";
import { MemoryDelayStore } from "./adapters/memory/memory-delay-store.ts";
import { MemoryTopicMemory } from "./adapters/memory/memory-topic-memory.ts";
import { systemRandom } from "./adapters/system/system-random.ts";
import { machineClock, systemTimers } from "./adapters/system/system-time.ts";
import { messageTo } from "./broker/testing/assembled.ts";
import { openBrokerDelayRoom } from "./broker-delay-room.ts";
import { EscapementError } from "./message/errors.ts";
import { epochMs } from "./message/time.ts";
import { code } from "./protocol/messaging-service.ts";
import { silentLog } from "./runtime/log.ts";

it.each([
  ["store_full", code.internalServerError],
  ["overloaded", code.tooManyRequests],
] as const)("what the delay store refuses (%s) is a refusal of the broker, in its words", async (reason, status) => {
  const store = new MemoryDelayStore({ clockMs: () => machineClock.wallMs(), shardCount: 1 });
  const room = await openBrokerDelayRoom({
    store,
    memory: new MemoryTopicMemory(),
    deliver: async () => {},
    clock: { nowMs: () => epochMs(Math.floor(machineClock.wallMs())), monotonicMs: machineClock.monotonicMs },
    machine: machineClock,
    timers: systemTimers,
    random: systemRandom,
    log: silentLog,
  });
  store.schedule = async () => {
    throw new EscapementError(reason, "free some space");
  };
  const deliverAtMs = machineClock.wallMs() + 60_000;
  const refused = room.schedule(messageTo("t", "x", { type: "DELAY", deliverAtMs }), deliverAtMs);
  await expect(refused).rejects.toEqual(expect.objectContaining({ name: "BrokerError", status }));
  await expect(refused).rejects.toThrow("free some space");
  await room.close();
});
