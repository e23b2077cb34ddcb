/**
 * What one broker can be asked about transactions. Its gRPC side tells nothing of this; an embedded broker tells little
 * (then these reject, and the doctor says that it does not know).
 */
export interface TransactionAdmin {
  /** Where this broker is. */
  readonly broker: string;
  topicType(topic: string): Promise<string | undefined>;
  /** Connected producers that name this topic: those that the broker asks about its halves. */
  producersOf(topic: string): Promise<readonly ProducerConnection[]>;
  settings(): Promise<ReadonlyMap<string, string>>;
  /** As the broker writes it, `V5_5_0`. */
  version(): Promise<string>;
  /** Whether any transaction has been ended since the broker's store was made. */
  hasEndedTransactions(): Promise<boolean>;
  discarded(): Promise<DiscardedRange>;
  /** The oldest from this offset on, at most 32; whole but for the body. */
  readDiscarded(fromOffset: number): Promise<readonly DiscardedHalf[]>;
  /** The half is open again and will be asked about. Twice makes two halves. */
  resume(offsetId: string): Promise<void>;
}

export type ProducerConnection = {
  readonly clientId: string;
  readonly address: string;
  readonly language: string;
  /** Made by this library: it answers checks. */
  readonly ours: boolean;
};

/** Offsets: `next` is that of the next one to come. */
export type DiscardedRange = { readonly first: number; readonly next: number };

/** Put aside after too many checks without an answer. */
export type DiscardedHalf = {
  readonly offset: number;
  readonly offsetId: string;
  readonly topic: string;
  readonly messageId: string;
  readonly checks: number;
  readonly discardedAtMs: number;
  readonly bodyBytes: number;
  /** ESC_ID and the transaction, when it is one of ours. */
  readonly id?: string;
  readonly txId?: string;
};
