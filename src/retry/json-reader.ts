import { EscapementError, isEscapementError } from "../message/errors.ts";
import { parseDuration, parseInstant } from "../message/parse-time.ts";
import type { DurationMs, EpochMs } from "../message/time.ts";

/**
 * Reads unknown JSON field by field and remembers every mistake with its path, so that all of them can be told at
 * once. What is wrong or absent reads as the fallback; nothing that was read may be used before `finish` has found no
 * mistake.
 */
export class JsonReader {
  readonly #mistakes: Mistake[] = [];
  #untold = 0;

  refuse(path: string, why: string): void {
    if (this.#mistakes.length < mistakesToldMax) this.#mistakes.push({ path, why });
    else this.#untold++;
  }

  /** `value` itself, an object with no other than these fields; a new and empty one where it is none. */
  object(value: unknown, path: string, fields: readonly string[]): Readonly<Record<string, unknown>> {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      this.refuse(path, `must be an object, not ${kindOf(value)}`);
      return {};
    }
    for (const name of Object.keys(value)) {
      if (fields.includes(name)) continue;
      const shown = JSON.stringify(name.slice(0, nameShownMax)).slice(1, -1);
      this.refuse(`${path}.${shown}`, `is not known here; there are ${fields.join(", ")}`);
    }
    return value as Record<string, unknown>;
  }

  array(value: unknown, path: string, lengthMax: number): readonly unknown[] {
    if (!Array.isArray(value)) this.refuse(path, `must be an array, not ${kindOf(value)}`);
    else if (value.length > lengthMax) this.refuse(path, `has ${value.length} entries, ${lengthMax} are allowed`);
    else return value;
    return [];
  }

  choice<T extends string>(value: unknown, path: string, choices: readonly T[], fallback: T): T {
    if (value === undefined) return fallback;
    if (choices.includes(value as T)) return value as T;
    this.refuse(path, `must be one of ${choices.join(", ")}`);
    return fallback;
  }

  text(value: unknown, path: string, lengthMax: number, fallback: string): string {
    if (value === undefined) return fallback;
    if (typeof value !== "string") this.refuse(path, `must be a text, not ${kindOf(value)}`);
    else if (!/^[\x21-\x7e]+$/.test(value)) this.refuse(path, "may hold visible ASCII characters only, at least one");
    else if (value.length > lengthMax) this.refuse(path, `is longer than ${lengthMax} characters`);
    else return value;
    return fallback;
  }

  /** For people: any language, with spaces, without control characters. */
  sentence(value: unknown, path: string, lengthMax: number): string | undefined {
    if (value === undefined) return undefined;
    if (typeof value !== "string") this.refuse(path, `must be a text, not ${kindOf(value)}`);
    else if (value.length > lengthMax) this.refuse(path, `is longer than ${lengthMax} characters`);
    else if (!/^[^\p{Cc}\p{Cs}]+$/u.test(value)) this.refuse(path, "is empty or holds control characters");
    else return value;
    return undefined;
  }

  whole(value: unknown, path: string, min: number, max: number, fallback: number): number {
    if (value === undefined) return fallback;
    if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max) return value as number;
    this.refuse(path, `must be a whole number from ${min} to ${max}`);
    return fallback;
  }

  number(value: unknown, path: string, min: number, max: number, fallback: number): number {
    if (value === undefined) return fallback;
    // Written so that NaN fails it too.
    if (typeof value === "number" && value >= min && value <= max) return value;
    this.refuse(path, `must be a number from ${min} to ${max}`);
    return fallback;
  }

  duration(value: unknown, path: string, minMs: DurationMs, maxMs: DurationMs, fallback: DurationMs): DurationMs {
    if (value === undefined) return fallback;
    const read = this.#time(() => parseDuration(value, path), path);
    if (read === undefined) return fallback;
    if (read > maxMs) this.refuse(path, `is ${read} ms, at most ${maxMs} ms are allowed; look at the unit`);
    else if (read >= minMs) return read;
    else {
      const unit = typeof value === "number" ? `; numbers are milliseconds, perhaps "${value}s" was meant` : "";
      this.refuse(path, `is ${read} ms, at least ${minMs} ms are needed${unit}`);
    }
    return fallback;
  }

  instant(value: unknown, path: string): EpochMs | undefined {
    return value === undefined ? undefined : this.#time(() => parseInstant(value, path), path);
  }

  /** Throws `invalid_field` when there was any mistake: the first one's path as its field, all of them in words. */
  finish(): void {
    const [first] = this.#mistakes;
    if (first === undefined) return;
    const told = this.#mistakes.map(({ path, why }) => `${path} ${why}.`);
    if (this.#untold > 0) told.push(`And ${this.#untold} more.`);
    throw new EscapementError("invalid_field", told.join(" "), { field: first.path });
  }

  #time<T>(parse: () => T, path: string): T | undefined {
    try {
      return parse();
    } catch (error) {
      if (!isEscapementError(error)) throw error;
      // Its sentence begins with the path, as ours will.
      const sentence = error.message
        .slice(path.length)
        .replace(/^:?\s*/, "")
        .replace(/\.$/, "");
      this.refuse(path, sentence);
      return undefined;
    }
  }
}

type Mistake = { readonly path: string; readonly why: string };

/** Enough to mend a policy in one go; a megabyte of wrong names must not become a megabyte of sentences. */
const mistakesToldMax = 20;
const nameShownMax = 64;

const kindOf = (value: unknown): string => {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  return Array.isArray(value) ? "an array" : `a ${typeof value}`;
};
