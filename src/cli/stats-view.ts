import type { StatsReply } from "../sdk/client.ts";
import type { Style } from "./output.ts";
import { counted, duration, number, printable, table } from "./wording.ts";

/** The statistics as a page for people. Pure: the same reply gives the same lines. */

const namesShownMax = 20;
const barWidth = 30;

export const viewStats = (stats: StatsReply, style: Style): string[] => {
  const heading = (text: string, note = ""): string => `\n${style("bold", text)}${note && `  ${style("dim", note)}`}`;
  return [
    `${style("bold", printable(stats.node))}  ${style("dim", stats.time)}`,
    "",
    ...table([
      ["waiting", stats.waiting.total],
      ["of these parked", stats.parked.total],
      ["due now", stats.dueNow],
      ["being sent", stats.claimed],
      ["dead", stats.dead],
    ]).map((line, i) => (i === 4 && stats.dead > 0 ? style("red", line) : line)),
    ...viewCounts("Waiting by topic", ["more topic"], stats.waiting.byTopic, heading),
    ...viewCounts("Parked by dependency", ["more dependency", "more dependencies"], stats.parked.byDependency, heading),
    ...viewDue(
      "Due in the next hour",
      "a minute",
      stats.duePerMinute,
      1,
      ["now", "15 min", "30 min", "45 min"],
      heading,
    ),
    ...viewDue("Due in the next day", "an hour", stats.duePerHour, 2, ["now", "6 h", "12 h", "18 h"], heading),
    heading("Lateness", `of the ${counted(stats.lateness.count, "message")} sent in the last minute`),
    stats.lateness.count === 0
      ? "nothing was sent"
      : `half within ${duration(stats.lateness.p50Ms)}, 99 % within ${duration(stats.lateness.p99Ms)}, the latest ${duration(stats.lateness.maxMs)}`,
    ...viewShards(stats, heading, style),
  ];
};

type Heading = (text: string, note?: string) => string;

const viewCounts = (
  title: string,
  nouns: readonly [string, string?],
  counts: Record<string, number>,
  heading: Heading,
): string[] => {
  const named = Object.entries(counts).sort(([, a], [, b]) => b - a);
  if (named.length === 0) return [];
  const most = Math.max(1, named[0]![1]);
  const rows = named
    .slice(0, namesShownMax)
    .map(([name, count]) => [printable(name), count, "█".repeat(Math.ceil((count / most) * barWidth))]);
  const left = named.slice(namesShownMax);
  const leftCount = left.reduce((sum, [, count]) => sum + count, 0);
  const more = left.length === 0 ? [] : [`and ${counted(leftCount, "message")} of ${counted(left.length, ...nouns)}`];
  return [heading(title), ...table(rows), ...more];
};

/** One column of blocks for each step of time, with the time written below every quarter. */
const viewDue = (
  title: string,
  step: string,
  counts: readonly number[],
  width: number,
  labels: readonly string[],
  heading: Heading,
): string[] => {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const most = Math.max(0, ...counts);
  if (total === 0) return [heading(title, "nothing")];
  const quarter = Math.floor((counts.length * width) / labels.length);
  const axis = labels.map((label) => `╵${label}`.padEnd(quarter)).join("");
  return [
    heading(title, `${counted(total, "message")}, at most ${number(most)} ${step}`),
    counts.map((count) => block(count, most).repeat(width)).join(""),
    axis.trimEnd(),
  ];
};

const blocks = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/** Empty only for nothing: one message among a million is still seen. */
const block = (count: number, most: number): string =>
  count <= 0 ? " " : blocks[Math.min(blocks.length - 1, Math.ceil((count / most) * blocks.length) - 1)]!;

const viewShards = (stats: StatsReply, heading: Heading, style: Style): string[] => {
  const byOwner = new Map<string | undefined, number[]>(stats.members.map((member) => [member, []]));
  for (const { shard, owner } of stats.shards) {
    const shards = byOwner.get(owner);
    if (shards === undefined) byOwner.set(owner, [shard]);
    else shards.push(shard);
  }
  const orphans = byOwner.get(undefined) ?? [];
  byOwner.delete(undefined);
  const rows = [...byOwner].map(([owner, shards]) => [printable(owner!), shards.length, ranges(shards)]);
  return [
    heading("Shards", `${stats.shards.length}, over ${counted(stats.members.length, "process", "processes")}`),
    ...table(rows),
    ...(orphans.length === 0 ? [] : [style("yellow", `without an owner: ${ranges(orphans)}`)]),
  ];
};

/** `0-3, 7, 9-10` */
export const ranges = (numbers: readonly number[]): string => {
  const spans: [number, number][] = [];
  for (const value of [...numbers].sort((a, b) => a - b)) {
    const last = spans.at(-1);
    if (last !== undefined && value === last[1] + 1) last[1] = value;
    else spans.push([value, value]);
  }
  return spans.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(", ");
};
