import type { SendFailure } from "../../dispatch/sink.port.ts";

/**
 * Half messages at the broker: sent, and then committed or rolled back; and the broker's question about one that stays
 * open. What a real 5.5.0 does with them is less than its documentation says (docs/transactions.md), so an answer here
 * proves little: that a half was sent, not that it is visible; that it was told how to end, not that it has ended.
 */
export interface HalfBroker {
  /** Be there when the broker asks about halves of this topic. */
  listen(topic: string): void;
  /** Sent once. A failed send may have stored the half all the same, and then the broker asks about it. */
  send(message: HalfMessage): Promise<HalfSendResult>;
  /** A hint: it may have no effect though the answer is well, and have had one though it is not. */
  end(half: OpenHalf, resolution: Resolution): Promise<EndResult>;
  /** Waits for what is being sent or answered. */
  close(): Promise<void>;
}

export type HalfMessage = {
  readonly topic: string;
  readonly tag?: string;
  readonly keys: readonly string[];
  readonly properties: ReadonlyMap<string, string>;
  readonly body: Buffer;
};

/** What it takes to end it. */
export type OpenHalf = { readonly topic: string; readonly messageId: string; readonly transactionId: string };

export type HalfSendResult =
  | { readonly ok: true; readonly half: OpenHalf }
  | { readonly ok: false; readonly failure: SendFailure };

export type Resolution = "commit" | "rollback";
export type EndResult = { readonly ok: true } | { readonly ok: false; readonly detail: string };

/** The broker asks how the transaction of this half ended. */
export type HalfCheck = {
  readonly topic: string;
  readonly messageId: string;
  readonly properties: ReadonlyMap<string, string>;
};

/** Undefined: not known now; the broker asks again, a limited number of times. */
export type AnswerCheck = (check: HalfCheck) => Promise<Resolution | undefined>;
