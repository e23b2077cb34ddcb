import { describe } from "vitest";
import { delayStoreAcceptingContract } from "./delay-store-accepting.contract.ts";
import { delayStoreClaimingContract } from "./delay-store-claiming.contract.ts";
import { delayStoreGroupsContract } from "./delay-store-groups.contract.ts";
import type { DelayStoreSubject, DelayStoreWishes } from "./delay-store-hands.ts";
import { delayStoreModelContract } from "./delay-store-model.contract.ts";
import { delayStoreNearContract } from "./delay-store-near.contract.ts";
import { delayStoreOwnersContract } from "./delay-store-owners.contract.ts";
import { delayStoreStatesContract } from "./delay-store-states.contract.ts";

/**
 * The manual of the delay store, to be run. An adapter's test calls it with a factory of fresh, empty stores. Read
 * its chapters beside delay-store.port.ts: the port says a sentence, they try it.
 *
 * What a store may choose, and what is therefore not tried: the order within a page of `near`, the order of dead
 * messages of one millisecond, how soon news arrives, how much later than the dedupe window it forgets, whether a
 * claim under a lease that ran out but that nobody else took succeeds (its epoch is still the newest), and what it does
 * with a known id that comes without `onConflict` (a bug of the caller).
 */
export type DelayStoreFactory = (wishes: DelayStoreWishes) => Promise<DelayStoreSubject>;

export type DelayStoreContractOptions = {
  /** Random histories to try; each needs a fresh store. */
  readonly modelRuns?: number;
  /** Steps of one history, at most. */
  readonly modelSteps?: number;
};

export const delayStoreContract = (
  name: string,
  factory: DelayStoreFactory,
  options: DelayStoreContractOptions = {},
): void => {
  describe(`delay store: ${name}`, () => {
    delayStoreAcceptingContract(factory);
    delayStoreStatesContract(factory);
    delayStoreNearContract(factory);
    delayStoreClaimingContract(factory);
    delayStoreGroupsContract(factory);
    delayStoreOwnersContract(factory);
    delayStoreModelContract(factory, options);
  });
};
