/** What numbers in the outbox's tables stand for. They are in users' databases: new ones are added at the end. */
export const kinds = ["send", "cancel"] as const;

/** `next_at` of a row that must not be sent yet, or later than that: the year 5138. */
export const heldMs = 100_000_000_000_000;

/** Of a transaction's mark. */
export const outcomes = { committed: 1, fenced: 2, "ended-inside": 3 } as const;
export const outcomeNames = ["committed", "fenced", "ended-inside"] as const;
