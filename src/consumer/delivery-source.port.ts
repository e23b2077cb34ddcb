import type { IncomingMessage } from "../ingest/topic-source.port.ts";

/** One topic that a consumer group receives. Several polls may be open at once. */
export interface DeliverySource {
  readonly topic: string;

  /** Waits for messages, a few seconds at most; at most `max`, empty when none came. Throws when nobody answers. */
  receive(max: number, signal: AbortSignal): Promise<readonly IncomingMessage[]>;

  /** Acknowledges in one call, and answers for each in their order. Never rejects. */
  ack(taken: readonly Taken[]): Promise<readonly ReceiptOutcome[]>;

  /** From now on invisible for so long, instead of what was; a new receipt stands for it. Never rejects. */
  changeInvisible(taken: Taken, invisibleMs: number): Promise<ChangeOutcome>;

  close(): Promise<void>;
}

/** A message and what stands for it at the moment. */
export type Taken = { readonly message: IncomingMessage; readonly receipt: unknown };

/**
 * - `stale`: the receipt stands for nothing any more, because its time is over; the message comes again, to anybody.
 * - `failed`: nobody answered. It may have taken effect.
 */
export type ReceiptOutcome = "done" | "stale" | "failed";

export type ChangeOutcome =
  | { readonly outcome: "done"; readonly receipt: unknown }
  | { readonly outcome: "stale" | "failed" };
