import type { Lab } from "./lab.ts";
import type { Verdict } from "./verdict.ts";

/** One kind of bad day: what is broken, when, and what must hold all the same. A new one is a file and a line in recipe-table.ts. */
export type Recipe = {
  /** `R1`; variants of one recipe carry a suffix, `R28-kill`. */
  readonly name: string;
  /** What happens, as a sentence. */
  readonly title: string;
  /** What must hold, in the words of the invariants. */
  readonly expects: string;
  /** The server is the embedded one, and no service is needed. */
  readonly embedded?: boolean;
  /** It breaks RocketMQ itself, so what comes after must wait until that is whole again. */
  readonly harmsRocketmq?: boolean;
  /** The same day without our protection: it must show the loss, or the oracle is blind. */
  readonly control?: boolean;
  run(lab: Lab): Promise<RecipeOutcome>;
};

export type RecipeOutcome = {
  /** Absent where a recipe sends no ordinary load. */
  readonly verdict?: Verdict;
  /** Broken expectations in sentences; empty when all held. */
  readonly failures: readonly string[];
  /** Numbers worth a look, printed with the result. */
  readonly notes: Readonly<Record<string, string | number>>;
};

/** `short` is for every commit: smaller loads, the same questions. */
export type Size = "short" | "long";
