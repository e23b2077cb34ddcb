import type { OutboxHead, OutboxRow } from "../../tx/outbox.port.ts";

/** What numbers in the outbox's tables stand for. They are in users' databases: new ones are added at the end. */
export const kinds = ["send", "cancel"] as const;
/** Rows outlive the library that wrote them, and another version may have written them. */
export const kindOf = (column: unknown): OutboxRow["kind"] => kinds[Number(column)] ?? "newer";

/** Undefined when it is none: whoever sends the others must not stumble over it. */
export const headOf = (column: unknown): OutboxHead | undefined => {
  try {
    const head: unknown = JSON.parse((column as Buffer).toString("utf8"));
    return isHead(head) ? head : undefined;
  } catch {
    return undefined;
  }
};

const isText = (value: unknown): boolean => value === undefined || typeof value === "string";
const isPair = (value: unknown): boolean => Array.isArray(value) && value.length === 2 && value.every(isText);

const isHead = (value: unknown): value is OutboxHead => {
  if (typeof value !== "object" || value === null) return false;
  const { keys = [], properties = [], tag, messageGroup, key, expireAfter } = value as Record<string, unknown>;
  if (!Array.isArray(keys) || !keys.every(isText) || !Array.isArray(properties)) return false;
  return properties.every(isPair) && [tag, messageGroup, key, expireAfter].every(isText);
};

/** `next_at` of a row that must not be sent yet, or later than that: the year 5138. */
export const heldMs = 100_000_000_000_000;

/** Of a transaction's mark. */
export const outcomes = { committed: 1, fenced: 2, "ended-inside": 3 } as const;
export const outcomeNames = ["committed", "fenced", "ended-inside"] as const;
