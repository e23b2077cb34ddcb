import { EscapementError } from "./errors.ts";
import { type DurationMs, day, durationMs, type EpochMs, epochMs, epochMsMax, hour, minute, second } from "./time.ts";

/**
 * Reads the instants and durations that users write. Pure, and without regular expressions: every form is walked once
 * from left to right over a short, capped text, so that no input can make it slow.
 *
 * Rounding is always upward, to the next whole millisecond: a message must never be early, not even by 1 ns.
 * What surprised us: `Date.UTC(99, …)` means 1999, and `Date.parse` takes 31 February for 3 March.
 */

/** The longest legal instant has 35 characters, a duration rarely 20; beyond this it is something else. */
const textLengthMax = 64;

/** 10^11 ms is March 1973. A smaller number is an epoch in seconds in all likelihood. */
const epochMsPlausible = 100_000_000_000;

/** RocketMQ's stock `messageDelayLevel`, levels 1 to 18. */
export const delayLevelsMs: readonly number[] = [
  1_000, 5_000, 10_000, 30_000, 60_000, 120_000, 180_000, 240_000, 300_000, 360_000, 420_000, 480_000, 540_000, 600_000,
  1_200_000, 1_800_000, 3_600_000, 7_200_000,
];

/** RFC 3339 with offset, or epoch milliseconds. Throws `invalid_time` or `invalid_field` for `field`. */
export const parseInstant = (input: unknown, field = "deliverAt"): EpochMs => {
  if (typeof input === "number") return instantOfNumber(input, field);
  if (typeof input !== "string") {
    throw new EscapementError(
      "invalid_field",
      `${field} must be an RFC 3339 text such as "2030-01-01T09:00:00Z" or epoch milliseconds, not ${kindOf(input)}.`,
      { field },
    );
  }
  return instantOfText(input, field);
};

/** A duration in any of the forms of `DurationInput`. Throws `invalid_time`, `invalid_field` or `delay_too_long`. */
export const parseDuration = (input: unknown, field = "delay"): DurationMs => {
  if (typeof input === "number") {
    if (!Number.isInteger(input) || input < 0) {
      throw invalid(field, `a duration as a number is a whole number of milliseconds from 0 up, not ${input}`);
    }
    return checkedDuration(input, field);
  }
  if (typeof input !== "string") {
    throw new EscapementError(
      "invalid_field",
      `${field} must be a duration such as "30m" or "PT30M" or a number of milliseconds, not ${kindOf(input)}.`,
      { field },
    );
  }
  return durationOfText(input, field);
};

/** True when a text is meant as an instant: no duration has a '-' after four digits. */
export const looksLikeInstant = (text: string): boolean => text.length >= 10 && text.charCodeAt(4) === dash;

// --- instants -------------------------------------------------------------------------------------------------

const instantOfNumber = (value: number, field: string): EpochMs => {
  if (!Number.isInteger(value)) throw invalid(field, `epoch milliseconds must be a whole number, not ${value}`);
  if (value < 0) throw invalid(field, "instants before 1970 are not taken");
  if (value < epochMsPlausible) {
    throw invalid(field, `${value} looks like seconds: numbers are epoch milliseconds (did you mean ${value}000?)`);
  }
  if (value > epochMsMax) {
    throw invalid(field, `${value} is beyond the year 9999: numbers are epoch milliseconds, not micro- or nanoseconds`);
  }
  return epochMs(value);
};

const instantOfText = (text: string, field: string): EpochMs => {
  const wrong = (why: string) => invalid(field, `${quoted(text)} ${why}`);
  if (text.length > textLengthMax) throw wrong("is too long for an instant");
  if (allDigits(text)) throw wrong("is a number in quotes: write epoch milliseconds without quotes, or RFC 3339");

  // 0123456789012345678
  // 2030-01-01T09:00:00
  const year = digits(text, 0, 4);
  const month = digits(text, 5, 2);
  const dayOfMonth = digits(text, 8, 2);
  const hours = digits(text, 11, 2);
  const minutes = digits(text, 14, 2);
  const seconds = digits(text, 17, 2);
  const shaped =
    year >= 0 &&
    month >= 0 &&
    dayOfMonth >= 0 &&
    hours >= 0 &&
    minutes >= 0 &&
    seconds >= 0 &&
    text.charCodeAt(4) === dash &&
    text.charCodeAt(7) === dash &&
    (text.charCodeAt(10) | 0x20) === letterT &&
    text.charCodeAt(13) === colon &&
    text.charCodeAt(16) === colon;
  if (!shaped) throw wrong('is not RFC 3339; write it like "2030-01-01T09:00:00Z" or "2030-01-01T09:00:00+08:00"');
  if (month < 1 || month > 12) throw wrong("has no such month");
  if (dayOfMonth < 1 || dayOfMonth > daysIn(year, month)) throw wrong("has a day that its month does not have");
  if (hours > 23 || minutes > 59) throw wrong("has no such time of day");
  if (seconds === 60) throw wrong("is a leap second, which computer clocks skip; use the second after it");
  if (seconds > 59) throw wrong("has no such time of day");

  let at = 19;
  let fractionMs = 0;
  if (text.charCodeAt(at) === dot) {
    at++;
    const from = at;
    let rest = false;
    for (; isDigit(text.charCodeAt(at)); at++) {
      const digit = text.charCodeAt(at) - digit0;
      if (at - from < 3) fractionMs += digit * (at === from ? 100 : at === from + 1 ? 10 : 1);
      else if (digit !== 0) rest = true;
    }
    if (at === from || at - from > 9) throw wrong("must have 1 to 9 digits after the point");
    if (rest) fractionMs++;
  }

  const offsetMinutes = offsetAt(text, at);
  if (Number.isNaN(offsetMinutes)) {
    throw wrong('must end with an offset: "Z" for UTC, or such as "+08:00"');
  }
  // Years below 100 mean 19xx to Date.UTC; all of them are before 1970 anyway.
  if (year < 1969) throw wrong("is before 1970, which is not taken");
  const value = Date.UTC(year, month - 1, dayOfMonth, hours, minutes, seconds) + fractionMs - offsetMinutes * 60_000;
  if (value < 0) throw wrong("is before 1970, which is not taken");
  if (value > epochMsMax) throw wrong("is beyond the year 9999");
  return epochMs(value);
};

/** Minutes east of UTC, or NaN when what stands at `at` is not exactly one offset. */
const offsetAt = (text: string, at: number): number => {
  const sign = text.charCodeAt(at);
  if ((sign | 0x20) === letterZ) return text.length === at + 1 ? 0 : Number.NaN;
  if ((sign !== plus && sign !== dash) || text.length !== at + 6 || text.charCodeAt(at + 3) !== colon)
    return Number.NaN;
  const hours = digits(text, at + 1, 2);
  const minutes = digits(text, at + 4, 2);
  if (hours < 0 || minutes < 0 || hours > 23 || minutes > 59) return Number.NaN;
  return (sign === plus ? 1 : -1) * (hours * 60 + minutes);
};

const daysIn = (year: number, month: number): number => {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
};

// --- durations ------------------------------------------------------------------------------------------------

type Unit = { readonly name: string; readonly ms: number };

/** In the order in which they may follow each other. */
const shortUnits: readonly Unit[] = [
  { name: "w", ms: 7 * day },
  { name: "d", ms: day },
  { name: "h", ms: hour },
  { name: "m", ms: minute },
  { name: "s", ms: second },
  { name: "ms", ms: 1 },
];
const isoDateUnits: readonly Unit[] = [
  { name: "W", ms: 7 * day },
  { name: "D", ms: day },
];
const isoTimeUnits: readonly Unit[] = [
  { name: "H", ms: hour },
  { name: "M", ms: minute },
  { name: "S", ms: second },
];

const durationOfText = (text: string, field: string): DurationMs => {
  const wrong = (why: string) => invalid(field, `${quoted(text)} ${why}`);
  if (text.length > textLengthMax) throw wrong("is too long for a duration");
  if (text.length === 0) throw invalid(field, 'an empty text is not a duration; write it like "30m"');
  if (allDigits(text))
    throw wrong(`has no unit: write "${text}s" or "${text}m", or ${text} without quotes for milliseconds`);
  if (text.startsWith("level:")) return levelDuration(text, wrong);
  if (looksLikeInstant(text)) throw wrong('is an instant; a duration is written like "30m"');
  if (text.includes("-")) throw wrong("is negative; durations start at 0");

  if (text.charCodeAt(0) === letterP) return isoDuration(text, field, wrong);
  const total = components(text, 0, text.length, shortUnits, wrong);
  return checkedDuration(total, field);
};

const levelDuration = (text: string, wrong: (why: string) => EscapementError): DurationMs => {
  const level = text.length <= 8 && allDigits(text.slice(6)) ? Number(text.slice(6)) : 0;
  const ms = delayLevelsMs[level - 1];
  if (ms === undefined || text.charCodeAt(6) === digit0)
    throw wrong("is not one of RocketMQ's levels level:1 to level:18");
  return durationMs(ms);
};

const isoDuration = (text: string, field: string, wrong: (why: string) => EscapementError): DurationMs => {
  const t = text.indexOf("T");
  const dateEnd = t < 0 ? text.length : t;
  for (let i = 1; i < dateEnd; i++) {
    const c = text[i];
    if (c === "Y" || c === "M") throw wrong("uses years or months, whose length varies; use days");
  }
  if (dateEnd === 1 && t < 0) throw wrong('has no parts; write it like "PT30M" or "P1DT2H"');
  if (t >= 0 && t === text.length - 1) throw wrong("ends with T; leave the T out or add hours, minutes or seconds");
  let total = 0;
  if (dateEnd > 1) total += components(text, 1, dateEnd, isoDateUnits, wrong);
  if (t >= 0) total += components(text, t + 1, text.length, isoTimeUnits, wrong);
  return checkedDuration(total, field);
};

/** Sums `<number><unit>` parts between `from` and `to`; units must come in the order given, each at most once. */
const components = (
  text: string,
  from: number,
  to: number,
  units: readonly Unit[],
  wrong: (why: string) => EscapementError,
): number => {
  const example = units === shortUnits ? '"30m", "1h30m", "90s", "250ms" or "2d"' : '"PT30M" or "P1DT2H"';
  let at = from;
  let total = 0;
  let nextUnit = 0;
  while (at < to) {
    const wholeFrom = at;
    while (at < to && isDigit(text.charCodeAt(at))) at++;
    const wholeTo = at;
    let fractionFrom = at;
    let fractionTo = at;
    if (at < to && text.charCodeAt(at) === dot) {
      fractionFrom = ++at;
      while (at < to && isDigit(text.charCodeAt(at))) at++;
      fractionTo = at;
      if (fractionTo === fractionFrom) throw wrong(`has a point without digits; write it like ${example}`);
    }
    if (wholeTo === wholeFrom || wholeTo - wholeFrom > 15 || fractionTo - fractionFrom > 9) {
      throw wrong(`is not a duration; write it like ${example}`);
    }
    const nameFrom = at;
    while (at < to && isLetter(text.charCodeAt(at))) at++;
    const name = text.slice(nameFrom, at);
    let unit = nextUnit;
    while (unit < units.length && units[unit]!.name !== name) unit++;
    if (unit === units.length) {
      const known = units.some((candidate) => candidate.name === name);
      throw wrong(
        known
          ? "has its units out of order or twice; largest first, each once"
          : `is not a duration; write it like ${example}`,
      );
    }
    nextUnit = unit + 1;
    total += Number(text.slice(wholeFrom, wholeTo)) * units[unit]!.ms;
    if (fractionTo > fractionFrom) {
      if (at < to) throw wrong("has a fraction in a part that is not the last");
      total += fractionOf(text.slice(fractionFrom, fractionTo), units[unit]!.ms);
    }
  }
  return total;
};

/** 0.<digits> of `unitMs`, rounded up. Nine digits of a week exceed 2^53, hence the big integers. */
const fractionOf = (fraction: string, unitMs: number): number => {
  const scale = 10n ** BigInt(fraction.length);
  return Number((BigInt(fraction) * BigInt(unitMs) + scale - 1n) / scale);
};

const checkedDuration = (value: number, field: string): DurationMs => {
  if (value > epochMsMax) {
    throw new EscapementError("delay_too_long", `${field} is longer than 8,000 years; is the unit right?`, { field });
  }
  return durationMs(value);
};

// --- letters and digits ---------------------------------------------------------------------------------------

const digit0 = 0x30;
const dot = 0x2e;
const dash = 0x2d;
const plus = 0x2b;
const colon = 0x3a;
const letterP = 0x50;
const letterT = 0x74;
const letterZ = 0x7a;

const isDigit = (code: number): boolean => code >= 0x30 && code <= 0x39;
const isLetter = (code: number): boolean => (code | 0x20) >= 0x61 && (code | 0x20) <= 0x7a;

/** The value of `count` digits at `at`, or -1. */
const digits = (text: string, at: number, count: number): number => {
  let value = 0;
  for (let i = at; i < at + count; i++) {
    const code = text.charCodeAt(i);
    if (!isDigit(code)) return -1;
    value = value * 10 + code - digit0;
  }
  return value;
};

const allDigits = (text: string): boolean => {
  for (let i = 0; i < text.length; i++) if (!isDigit(text.charCodeAt(i))) return false;
  return text.length > 0;
};

const invalid = (field: string, why: string): EscapementError =>
  new EscapementError("invalid_time", `${field}: ${why}.`, { field });

/** As JSON, so that control characters show, and cut. */
const quoted = (text: string): string =>
  JSON.stringify(text.length > textLengthMax ? `${text.slice(0, textLengthMax)}…` : text);

const kindOf = (value: unknown): string =>
  value === null ? "null" : Array.isArray(value) ? "an array" : `a ${typeof value}`;
