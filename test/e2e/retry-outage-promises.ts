import { expect } from "vitest";
import { asModelled, livedThrough, outage } from "./retry-outage.ts";
import type { Place } from "./retrying.ts";

/** What is promised of an outage, for whichever broker and store. */
export const keepsItsPromises = async (place: Place): Promise<void> => {
  const model = await asModelled();
  const { whileDown, seen, stats, dead, handled, drained99Ms, calls, attempts } = await livedThrough(place);
  const sum = (name: "succeeded" | "dead" | "crashes" | "parked" | "held" | "attempts") =>
    stats.reduce((total, one) => total + one[name], 0);
  const said = JSON.stringify({ model, drained99Ms, calls, whileDown: whileDown.calls, stats });

  expect(handled, said).toBe(outage.messages);
  expect({ dead, deadByConsumers: sum("dead"), crashes: sum("crashes"), held: sum("held") }, said).toEqual({
    dead: 0,
    deadByConsumers: 0,
    crashes: 0,
    held: 0,
  });

  // While it was down nearly all were parked, for everybody to see, and only probes were sent.
  const mostParked = Math.max(...whileDown.seen.map(({ parked }) => parked));
  expect(mostParked, said).toBeGreaterThan(outage.messages * 0.8);
  expect(whileDown.seen.at(-1)!.state, said).toMatch(/open|probing/);
  expect(whileDown.seen.at(-1)!.workers, said).toBe(outage.consumers);
  expect(whileDown.calls, said).toBeLessThan(outage.messages / 4);
  expect(seen.at(-1)!.parked, said).toBe(0);
  expect(seen.at(-1)!.state, said).toMatch(/ramping|closed/);

  // The model's machine is never late and has no other work; a real one gets half as much time again, and 5 s.
  expect(drained99Ms, said).toBeLessThanOrEqual(model.drainedMs * 1.5 + 5_000);
  expect(calls / outage.messages, said).toBeLessThanOrEqual(5);

  // Each message's attempts are counted from one, without a gap and without a parking among them.
  expect(calls, said).toBe(sum("attempts"));
  for (const [message, made] of attempts) expect(made, message).toEqual(made.map((_, i) => i + 1));
};
