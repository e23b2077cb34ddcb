import { EscapementError } from "../message/errors.ts";

/**
 * What every piece of text in a message has to satisfy, whichever door it came by. One walk over a text whose length
 * was capped first, so that a megabyte of rubbish costs as little as a word.
 *
 * What surprised us: the RocketMQ proxy refuses Java's ISO control characters, which are not only those below 0x20
 * and 0x7F but also 0x80 to 0x9F; and a lone surrogate becomes `U+FFFD` in UTF-8 without anyone noticing, so two
 * different keys would become the same one.
 */

/** Checks a text field and answers its size in UTF-8 bytes. */
export const textBytes = (value: unknown, field: string, bytesMax: number): number => {
  if (typeof value !== "string") throw wrongType(field, "a text", value);
  if (value.length === 0) throw invalidField(field, "is empty; leave it out instead");
  if (value.length > bytesMax) throw invalidField(field, `is longer than the ${bytesMax} bytes allowed`);
  const bytes = cleanBytes(value, field);
  if (bytes > bytesMax) throw invalidField(field, `has ${bytes} bytes in UTF-8, ${bytesMax} are allowed`);
  return bytes;
};

/** Refuses control characters and lone surrogates; answers the size in UTF-8 bytes. The length must be capped before. */
export const cleanBytes = (text: string, field: string): number => {
  let wide = false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || (code >= 0x7f && code <= 0x9f)) {
      const shown = code.toString(16).toUpperCase().padStart(4, "0");
      throw invalidField(field, `has the control character U+${shown} at position ${i}, which RocketMQ refuses`);
    }
    if (code > 0x7f) wide = true;
  }
  if (!wide) return text.length;
  if (!text.isWellFormed()) throw loneSurrogate(field);
  return Buffer.byteLength(text);
};

/** True for what any reader would call a space: all of Unicode's, not only the one that separates keys in RocketMQ. */
export const hasSpace = (text: string): boolean => {
  for (let i = 0; i < text.length; i++) if (isSpace(text.charCodeAt(i))) return true;
  return false;
};

export const isBlank = (text: string): boolean => {
  for (let i = 0; i < text.length; i++) if (!isSpace(text.charCodeAt(i))) return false;
  return true;
};

const isSpace = (code: number): boolean =>
  code === 0x20 ||
  (code >= 0xa0 &&
    (code === 0xa0 ||
      code === 0x1680 ||
      (code >= 0x2000 && code <= 0x200a) ||
      code === 0x2028 ||
      code === 0x2029 ||
      code === 0x202f ||
      code === 0x205f ||
      code === 0x3000 ||
      code === 0xfeff));

export const invalidField = (field: string, why: string): EscapementError =>
  new EscapementError("invalid_field", `${field} ${why}.`, { field });

export const wrongType = (field: string, wanted: string, value: unknown): EscapementError =>
  invalidField(field, value === null ? `is null; leave it out instead` : `must be ${wanted}, not ${kindOf(value)}`);

export const loneSurrogate = (field: string): EscapementError =>
  new EscapementError("invalid_utf8", `${field} has half of a surrogate pair, which no UTF-8 text can hold.`, {
    field,
  });

export const kindOf = (value: unknown): string =>
  value === null
    ? "null"
    : Array.isArray(value)
      ? "an array"
      : typeof value === "object"
        ? "an object"
        : `a ${typeof value}`;

/** A name for an error message or a field path: cut, and with control characters made visible. */
export const shownName = (name: string): string => {
  if (name.length <= shownLengthMax && isPlain(name)) return name;
  const cut = name.length > shownLengthMax ? `${name.slice(0, shownLengthMax)}…` : name;
  return JSON.stringify(cut).slice(1, -1);
};

const shownLengthMax = 64;

/** Printable ASCII that JSON would not escape: nearly every name there is, and asked for every property. */
const isPlain = (name: string): boolean => {
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i);
    if (code < 0x20 || code > 0x7e || code === 0x22 || code === 0x5c) return false;
  }
  return true;
};
