import { type Fact, factText } from "./behaviour.ts";
import type { Result } from "./run-behaviours.ts";
import type { TargetName } from "./target.ts";

/**
 * What was seen, side by side, and what of it needs a reason: a fact that the embedded broker shows otherwise than the
 * real one for the same client, a behaviour that failed on either, a time out of its bounds on either. Pure.
 */
export type KnownDifference = {
  readonly behaviour: string;
  /** The fact's name, or `failure` for a behaviour that does not get to its end. */
  readonly fact: string;
  /** Where it is seen: the embedded broker differs from the real one, or the real one itself breaks a promise. */
  readonly target: TargetName;
  readonly clients: "all" | readonly string[];
  /** What is seen there, so that a difference that changes needs a reason again. */
  readonly saw: string;
  readonly why: string;
  /** For what depends on chance and is not seen in every run. */
  readonly sometimes?: true;
};

export type Difference = {
  readonly behaviour: string;
  readonly fact: string;
  readonly target: TargetName;
  readonly client: string;
  readonly saw: string;
  /** What the other target shows; undefined when it was not run or a promise alone is broken. */
  readonly instead?: string;
  /** Absent: nobody has given a reason. */
  readonly known?: KnownDifference;
};

export const failureFact = "failure";
const nothing = "nothing";

export const differences = (results: readonly Result[], known: readonly KnownDifference[]): Difference[] => {
  const found: Difference[] = [];
  const add = (difference: Difference): void => {
    const reason = known.find((one) => explains(one, difference));
    found.push(reason === undefined ? difference : { ...difference, known: reason });
  };
  for (const result of results) {
    const { behaviour, target, client, facts, failure } = result;
    const place = { behaviour, target, client };
    if (failure !== undefined) add({ ...place, fact: failureFact, saw: failure });
    for (const [fact, value] of Object.entries(facts ?? {})) {
      if (isBroken(value)) add({ ...place, fact, saw: factText(value) });
    }
    if (target !== "embedded" || facts === undefined) continue;
    const real = results.find((one) => one.target === "real" && one.behaviour === behaviour && one.client === client);
    if (real?.facts === undefined) continue;
    for (const fact of new Set([...Object.keys(real.facts), ...Object.keys(facts)])) {
      const [saw, instead] = [textOf(facts[fact]), textOf(real.facts[fact])];
      if (saw !== instead && !isBroken(facts[fact]) && !isBroken(real.facts[fact]))
        add({ ...place, fact, saw, instead });
    }
  }
  return found;
};

/** Reasons for what was not seen any more, among what was run. */
export const needless = (
  results: readonly Result[],
  seen: readonly Difference[],
  known: readonly KnownDifference[],
): KnownDifference[] =>
  known.filter(
    (one) =>
      one.sometimes !== true &&
      !seen.some((difference) => difference.known === one) &&
      // Only a run of both targets can tell.
      ["real", "embedded"].every((target) =>
        results.some(
          (result) => result.target === target && result.behaviour === one.behaviour && concerns(one, result.client),
        ),
      ),
  );

const concerns = ({ clients }: KnownDifference, client: string): boolean =>
  clients === "all" || clients.includes(client);

const explains = (known: KnownDifference, { behaviour, fact, target, client, saw }: Difference): boolean =>
  known.behaviour === behaviour &&
  known.fact === fact &&
  known.target === target &&
  known.saw === saw &&
  concerns(known, client);

const isBroken = (fact: Fact | undefined): boolean => typeof fact === "object" && !fact.kept;
const textOf = (fact: Fact | undefined): string => (fact === undefined ? nothing : factText(fact));
