/**
 * Numbers, times and other people's text as we print them. Pure.
 */

const numbers = new Intl.NumberFormat("en-US");

export const number = (value: number): string => numbers.format(value);

export const counted = (count: number, one: string, many = `${one}s`): string =>
  `${number(count)} ${count === 1 ? one : many}`;

/**
 * Text that came from elsewhere, safe for a terminal: control characters (which could move the cursor or rename the
 * window) and direction overrides are shown as escapes.
 */
export const printable = (text: string): string =>
  text.replace(
    /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );

/** A length of time in the two largest units that matter: `850 ms`, `4.2 s`, `1 h 30 min`, `3 d`. */
export const duration = (ms: number): string => {
  if (ms < 1_000) return `${ms < 10 ? trim(ms) : Math.round(ms)} ms`;
  if (ms < 60_000) return `${trim(ms / 1_000)} s`;
  const units: readonly (readonly [string, number])[] = [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["min", 60_000],
    ["s", 1_000],
  ];
  // In whole seconds from here on, so that 59 min 59.9 s is an hour and not 60 minutes.
  const wholeMs = Math.round(ms / 1_000) * 1_000;
  const first = units.findIndex(([, size]) => wholeMs >= size);
  const [name, size] = units[first]!;
  const next = units[first + 1];
  if (next === undefined) return `${Math.round(wholeMs / size)} ${name}`;
  const inNext = Math.round(wholeMs / next[1]);
  const perUnit = size / next[1];
  const [whole, rest] = [Math.floor(inNext / perUnit), inNext % perUnit];
  return rest === 0 ? `${whole} ${name}` : `${whole} ${name} ${rest} ${next[0]}`;
};

/** An instant seen from now: `in 30 min`, `4.2 s ago`, `now`. Empty when the text is no instant. */
export const fromNow = (instant: string, nowMs: number): string => {
  const ms = Date.parse(instant) - nowMs;
  if (Number.isNaN(ms)) return "";
  if (Math.abs(ms) < 500) return "now";
  return ms > 0 ? `in ${duration(ms)}` : `${duration(-ms)} ago`;
};

const trim = (value: number): string => value.toFixed(1).replace(/\.0$/, "");

/** Rows of cells in columns; numbers to the right. The last column is not padded. */
export const table = (rows: readonly (readonly (string | number)[])[], gap = "  "): string[] => {
  const cells = rows.map((row) => row.map((cell) => (typeof cell === "number" ? number(cell) : cell)));
  const widths: number[] = [];
  for (const row of cells) {
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length);
    });
  }
  return cells.map((row, r) =>
    row
      .map((cell, i) => {
        if (typeof rows[r]![i] === "number") return cell.padStart(widths[i]!);
        return i === row.length - 1 ? cell : cell.padEnd(widths[i]!);
      })
      .join(gap)
      .trimEnd(),
  );
};
