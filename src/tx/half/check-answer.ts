import type { Verdict } from "./barrier.port.ts";
import type { Resolution } from "./half-broker.port.ts";

/**
 * What the broker is told, from what the barrier says. Pure.
 *
 * What surprised us: a broker asks about halves that have ended, and a "commit" then makes a second copy. So a message
 * that has been seen on its topic is answered with "rollback": it is there, and that ends the asking. And a committed one
 * that is not seen yet is answered only by whoever has the turn; a null costs one of the broker's questions, a wrong
 * "commit" a duplicate.
 */
export const answerOf = (verdict: Verdict): Resolution | undefined => {
  switch (verdict.state) {
    case "rolled-back":
      return "rollback";
    case "committed":
      if (verdict.seen) return "rollback";
      return verdict.turn ? "commit" : undefined;
    case "unknown":
      return undefined;
  }
};
