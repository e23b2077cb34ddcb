import { InvalidArgumentError } from "commander";

/** How the text of a flag becomes a value. What is wrong here ends with a usage error that says what to give. */

export const wholeNumber =
  (min: number, max: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`Give a whole number from ${min} to ${max}.`);
    }
    return value;
  };

export const decimalNumber = (text: string): number => {
  if (!/^\d+(\.\d+)?$/.test(text)) throw new InvalidArgumentError("Give a number such as 2 or 1.5.");
  return Number(text);
};

/** Digits alone are milliseconds, for the server a JSON number; any other text is the server's to understand. */
export const timeOrText = (text: string): number | string => (/^\d+$/.test(text) ? Number(text) : text);

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000 };

/** `500ms`, `10s`, `2m`, or milliseconds. */
export const timeoutMs = (text: string): number => {
  const [, digits, unit = "ms"] = /^(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(text) ?? [];
  const value = Number(digits) * unitMs[unit]!;
  if (digits === undefined || value < 1 || value > 600_000) {
    throw new InvalidArgumentError("Give a time from 1ms to 10m, such as 500ms, 10s or 2m.");
  }
  return value;
};

/** One `name=value`, added to those before it. Only the first `=` divides. */
export const property = (text: string, before: Record<string, string> = {}): Record<string, string> => {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("Give name=value.");
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
};

/** One more word. */
export const word = (text: string, before: readonly string[] = []): string[] => [...before, text];
