import type { Stage } from "./stage.ts";

/**
 * One thing a broker does, as a short script that any client can be driven through. It hands back what it saw as
 * facts, in the order they happened; what the real broker shows is what the embedded one is compared with. A script
 * throws when it cannot go on, or when a promise is broken that no broker may break.
 */
export type Behaviour = {
  /** Unique; what `--only` takes. */
  readonly name: string;
  /** What happens, for the table; a sentence without a full stop. */
  readonly what: string;
  /** Absent: all clients. */
  readonly clients?: readonly string[];
  /**
   * When it may run: with all others (absent), or when all clients wait for the broker to be killed and started again,
   * or last, because the real broker keeps one core busy from the first transaction on.
   */
  readonly phase?: "restart" | "transactions";
  /** True when it takes far longer than the others, so that it had better begin first. */
  readonly isLong?: boolean;
  /** True when it is part of the short pass over TLS. */
  readonly alsoOverTls?: boolean;
  run(stage: Stage): Promise<Facts>;
};

export type Facts = Readonly<Record<string, Fact>>;
/** A time is compared by whether it was in its bounds, and shown with what was measured. */
export type Fact = string | number | boolean | Timing;
export type Timing = { readonly ms: number; readonly bounds: string; readonly kept: boolean };

export const timing = (ms: number, { from = 0, to }: { from?: number; to: number }): Timing => ({
  ms: Math.round(ms),
  bounds: from === 0 ? `within ${to} ms` : `${from} to ${to} ms`,
  kept: ms >= from && ms <= to,
});

/** How a fact reads in the table, the same for every run that saw the same. */
export const factText = (fact: Fact): string => {
  if (typeof fact === "object") return fact.kept ? fact.bounds : `not ${fact.bounds}`;
  if (typeof fact === "boolean") return fact ? "yes" : "no";
  return String(fact);
};

/** A promise that is broken whatever the other broker does. */
export const must = (condition: boolean, promise: string): void => {
  if (!condition) throw new Error(`${broken}${promise}`);
};

export const isBrokenPromise = (failure: string): boolean => failure.startsWith(broken);

const broken = "broken: ";
