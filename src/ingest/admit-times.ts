import { EscapementError } from "../message/errors.ts";
import { limits } from "../message/message.ts";
import { looksLikeInstant, parseDuration, parseInstant } from "../message/parse-time.ts";
import { day, type EpochMs, epochMs, epochMsMax } from "../message/time.ts";

/**
 * When a message is due and when it is too late for it, from the fields that say so. Past due times are kept as they
 * are: the message is delivered now, in the order of what was asked for.
 *
 * `textNumbers`: the door knows only texts, so a text of digits is a number.
 */

/** When a message is due: exactly one of the two says so. */
export const dueOf = (
  deliverAt: unknown,
  delay: unknown,
  nowMs: EpochMs,
  textNumbers: boolean | undefined,
): EpochMs => {
  if (deliverAt === undefined && delay === undefined) {
    throw new EscapementError(
      "time_missing",
      "Say when to deliver: give deliverAt (an instant) or delay (a duration).",
      {
        field: "deliverAt",
      },
    );
  }
  if (deliverAt !== undefined && delay !== undefined) {
    throw new EscapementError("time_ambiguous", "Give deliverAt or delay, not both.", { field: "delay" });
  }
  const field = deliverAt === undefined ? "delay" : "deliverAt";
  const dueMs =
    deliverAt === undefined
      ? nowMs + parseDuration(numberFromText(delay, textNumbers), field)
      : parseInstant(numberFromText(deliverAt, textNumbers), field);
  if (dueMs - nowMs > limits.delayDaysMax * day) {
    const days = Math.ceil((dueMs - nowMs) / day);
    throw new EscapementError("delay_too_long", `${field} is ${days} days away, ${limits.delayDaysMax} are allowed.`, {
      field,
    });
  }
  return epochMs(dueMs);
};

/** Counted from the due time when a duration. A message that could never be delivered in time is a mistake. */
export const expiryOf = (
  expireAfter: unknown,
  deliverAtMs: EpochMs,
  nowMs: EpochMs,
  textNumbers: boolean | undefined,
): EpochMs => {
  const field = "expireAfter";
  const value = numberFromText(expireAfter, textNumbers);
  const expireAtMs =
    typeof value === "string" && looksLikeInstant(value)
      ? parseInstant(value, field)
      : epochMs(Math.min(deliverAtMs + parseDuration(value, field), epochMsMax));
  if (expireAtMs <= deliverAtMs || expireAtMs <= nowMs) {
    throw new EscapementError(
      "expires_before_due",
      "expireAfter ends before the message could be delivered; make it longer or leave it out.",
      { field },
    );
  }
  return expireAtMs;
};

const numberFromText = (value: unknown, textNumbers: boolean | undefined): unknown =>
  textNumbers === true && typeof value === "string" && isPlainNumber(value) ? Number(value) : value;

const isPlainNumber = (text: string): boolean => {
  if (text.length === 0 || text.length > 15) return false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x30 || code > 0x39) return false;
  }
  return true;
};
