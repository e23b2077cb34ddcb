/**
 * Knows which target topics exist at the broker. Asked when a message is accepted, so that a mistyped topic is
 * refused at once and not found out at the due time.
 */
export interface TopicDirectory {
  /** Answers within a second or so; results are cached by the adapter. */
  lookUp(topic: string): Promise<TopicLookup>;
}

export type TopicLookup =
  /** `types` are the message types the topic takes: NORMAL, FIFO, DELAY, TRANSACTION (a MIXED topic lists all). */
  | { readonly outcome: "exists"; readonly types: readonly string[] }
  | { readonly outcome: "missing" }
  /** The broker did not answer. */
  | { readonly outcome: "unreachable" };

/** Remembers topics that were once seen to exist, across restarts: a broker that is down looks like a missing topic. */
export interface TopicMemory {
  known(): Promise<readonly string[]>;
  remember(topic: string): Promise<void>;
}
