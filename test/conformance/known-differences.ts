import type { KnownDifference } from "./compare.ts";

/**
 * Where the embedded broker shows something else than RocketMQ 5.5.0, or where RocketMQ itself breaks a promise, each
 * with its reason. A difference without one here fails the run, and so does a reason that nothing needs any more.
 */
export const knownDifferences: readonly KnownDifference[] = [];
