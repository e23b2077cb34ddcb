import type { Recipe } from "../recipe.ts";
import { standardDay } from "../standard-day.ts";

export const r36: Recipe = {
  name: "R36",
  title: "every message is canceled within 5 ms around its due time",
  expects: "canceled or too late, never both and never neither: a message that is `canceled` never arrives",
  async run(lab) {
    const outcome = await standardDay(lab, {
      load: {
        messages: lab.options.size === "long" ? 20_000 : 2_000,
        ratePerSecond: lab.options.size === "long" ? 1_000 : 500,
        delayMs: [1_000, 4_000],
        shares: { groups: 0, keys: 0.2, cancels: 1, reschedules: 0, batches: 0.5, topicDoor: 0 },
      },
      alter: (message) => ({
        ...message,
        change: { verb: "cancel", atShare: 1, byMs: 0, afterDueMs: lab.random.float() * 10 - 5 },
      }),
      inFaultMin: 0,
      async strike() {
        lab.faultBegins("cancels meet their due times");
        lab.faultEnds("and go on doing so");
      },
    });
    const { canceled, tooLate, accepted } = outcome.verdict!;
    const failures: string[] = [];
    if (canceled === 0 || tooLate === 0)
      failures.push(`void: ${canceled} canceled, ${tooLate} too late; the race needs both`);
    if (canceled + tooLate !== accepted)
      failures.push(`${accepted} accepted, but ${canceled} canceled and ${tooLate} too late`);
    return { ...outcome, failures: [...outcome.failures, ...failures] };
  },
};
