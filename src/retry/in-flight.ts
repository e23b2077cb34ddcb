import type { RetryPolicy } from "./policy.ts";

/**
 * Which version decides about a message that failed before, when its policy has another one by now. The newest version
 * says what becomes of those in flight: they adopt it (the default), or keep the one that decided last. What was
 * decided by another policy, because a binding was changed, always goes by the one that is bound now.
 */
export const versionInForce = (
  bound: { readonly name: string; readonly version: number; readonly policy: Pick<RetryPolicy, "inFlight"> },
  /** `name@version`, as the message's envelope says; undefined when it never failed. */
  decidedBy: string | undefined,
): string => {
  const newest = `${bound.name}@${bound.version}`;
  if (decidedBy === undefined || bound.policy.inFlight !== "keep") return newest;
  return decidedBy.startsWith(`${bound.name}@`) ? decidedBy : newest;
};
