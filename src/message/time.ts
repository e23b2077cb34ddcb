/**
 * The two kinds of time in the system, as branded numbers so that mixing them does not compile: an instant on the
 * wall clock and a length of time. Both are whole milliseconds. Nothing here asks the machine what time it is.
 */

/** Milliseconds since 1970-01-01T00:00:00Z, a whole number from 0 to {@link epochMsMax}. */
export type EpochMs = number & { readonly __unit: "EpochMs" };

/** A length of time in milliseconds; whole and not negative unless a docstring says otherwise. */
export type DurationMs = number & { readonly __unit: "DurationMs" };

/** 9999-12-31T23:59:59.999Z: the last instant that RFC 3339 can write, and well inside the 48 bits a record keeps. */
export const epochMsMax = 253_402_300_799_999 as EpochMs;

export const epochMs = (value: number): EpochMs => value as EpochMs;
export const durationMs = (value: number): DurationMs => value as DurationMs;

export const second = 1_000 as DurationMs;
export const minute = 60_000 as DurationMs;
export const hour = 3_600_000 as DurationMs;
export const day = 86_400_000 as DurationMs;

/** An instant as RFC 3339 in UTC with milliseconds, the one form in which we print instants. */
export const formatInstant = (instant: EpochMs): string => new Date(instant).toISOString();
