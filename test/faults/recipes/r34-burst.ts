import { eventually } from "../lab.ts";
import type { Recipe } from "../recipe.ts";
import { standardDay } from "../standard-day.ts";

export const r34: Recipe = {
  name: "R34",
  title: "very many messages are due in the same millisecond",
  expects: "nothing lost, nothing early, not one second copy, memory bounded",
  async run(lab) {
    const messages = lab.options.size === "long" ? 100_000 : 10_000;
    const ratePerSecond = 5_000;
    const leadMs = (messages / ratePerSecond) * 1_000 * 1.5 + 6_000;
    let drainedMs = 0;
    const outcome = await standardDay(lab, {
      load: {
        messages,
        ratePerSecond,
        delayMs: [0, 0],
        bodyBytes: [100, 200],
        shares: { groups: 0, keys: 0.1, cancels: 0.002, reschedules: 0, batches: 1, topicDoor: 0 },
      },
      allDueAfterMs: leadMs,
      quietWithinMs: leadMs + 180_000,
      recoveryMaxMs: 180_000,
      inFaultMin: messages * 0.9,
      strikeBetween: [0.02, 0.02],
      async strike() {
        const dueMs = lab.ledger.entries.find((entry) => entry.kind === "intent")!.dueMs;
        await eventually(leadMs + 10_000, () => Date.now() >= dueMs - 200);
        lab.faultBegins(`${messages} messages are due`);
        await eventually(180_000, () => lab.seen.size >= messages * 0.99);
        drainedMs = Date.now() - dueMs;
        lab.faultEnds(`99 % have arrived after ${drainedMs} ms`);
      },
    });
    return { ...outcome, notes: { ...outcome.notes, messages, arrived99Ms: drainedMs } };
  },
};
