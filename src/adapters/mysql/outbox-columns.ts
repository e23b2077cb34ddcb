/** What numbers in the outbox's tables stand for. They are in users' databases: new ones are added at the end. */
export const kinds = ["send", "cancel"] as const;

/** Of a transaction's mark. */
export const outcomes = { committed: 1, fenced: 2, "ended-inside": 3 } as const;
export const outcomeNames = ["committed", "fenced", "ended-inside"] as const;
