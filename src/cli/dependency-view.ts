import type { DependencyDetails } from "../sdk/client.ts";
import type { Style } from "./output.ts";
import { counted, duration, fromNow, number, printable, table } from "./wording.ts";

/** Dependencies as people read them. Pure: the same reply gives the same lines. */

/** Of the table's columns the state has colours, so it stands last among those that are padded. */
export const viewDependencies = (items: readonly DependencyDetails[], nowMs: number, style: Style): string[] => {
  if (items.length === 0) return ["no dependencies: no consumer reports any, and nothing is parked"];
  const head = ["dependency", "workers", "calls/s", "failing", "parked", "state"];
  const rows = items.map((item) => [
    printable(item.key),
    number(item.workers),
    number(item.callsPerSec),
    failing(item),
    number(item.parked),
    stateText(item, nowMs),
  ]);
  return table([head, ...rows]).map((line, i) => (i === 0 ? style("dim", line) : coloured(line, items[i - 1]!, style)));
};

/** One line for one moment, for `watch`. */
export const viewMoment = (item: DependencyDetails, nowMs: number, keyWidth: number, style: Style): string => {
  const time = new Date(nowMs).toTimeString().slice(0, 8);
  const parts = [
    `${number(item.callsPerSec)} calls/s`.padStart(15),
    `${failing(item)} failing`.padStart(16),
    `${number(item.parked)} parked`.padStart(15),
  ];
  const line = `${printable(item.key).padEnd(keyWidth)}  ${parts.join("")}   ${stateText(item, nowMs)}`;
  return `${style("dim", time)}  ${coloured(line, item, style)}`;
};

export const viewDependency = (item: DependencyDetails, nowMs: number, style: Style): string[] => {
  const { breaker, budget, forced } = item;
  const rows: [string, string | undefined][] = [
    ["dependency", printable(item.key)],
    ["state", coloured(stateText(item, nowMs), item, style)],
    ["since", item.since && `${item.since} (${fromNow(item.since, nowMs)})`],
    ["because", forced && `an operator holds it: ${printable(forced.reason)}`],
    ["until", forced && `${forced.until} (${fromNow(forced.until, nowMs)})`],
    ["workers", number(item.workers)],
    ["calls", `${number(item.callsPerSec)} a second, ${failing(item)} failing`],
    ["allowed", item.allowedPerSec === undefined ? "as many as they like" : `${number(item.allowedPerSec)} a second`],
    ["parked", counted(item.parked, "message")],
    [
      "breaker",
      breaker === null
        ? "none"
        : `opens at ${percent(breaker.failureRate)} of at least ${counted(breaker.minCalls, "call")} in ${duration(breaker.windowMs)}`,
    ],
    [
      "",
      breaker === null
        ? undefined
        : `asks with ${counted(breaker.probes, "call")} every ${duration(breaker.probeEveryMs)}, comes back at ${number(breaker.rampStartPerSec)}/s and ${number(breaker.rampAddPerSec)}/s more each second`,
    ],
    [
      "budget",
      budget === null
        ? "none"
        : `retries: ${number(budget.percent)} % of the successes, and ${number(budget.minPerSec)}/s`,
    ],
  ];
  return rows.flatMap(([name, text]) => (text === undefined ? [] : [`${name.padEnd(10)}  ${text}`]));
};

const stateText = (item: DependencyDetails, nowMs: number): string => {
  const { state, forced, probesAt, allowedPerSec } = item;
  if (forced !== undefined) return `${state}, held for ${remaining(forced.until, nowMs)}: ${printable(forced.reason)}`;
  switch (state) {
    case "open":
      return probesAt === undefined ? "open" : `open, asks again ${fromNow(probesAt, nowMs)}`;
    case "probing":
      return "probing";
    case "ramping":
      return `ramping, ${number(allowedPerSec ?? 0)}/s allowed`;
    case "closed":
      return item.parked > 0 ? "closed, lets out what is parked" : "closed";
  }
};

const remaining = (until: string, nowMs: number): string => duration(Math.max(0, Date.parse(until) - nowMs));

const failing = ({ callsPerSec, failedPerSec }: DependencyDetails): string =>
  callsPerSec < 0.05 ? "–" : percent(Math.min(1, failedPerSec / callsPerSec));

const percent = (part: number): string => `${Math.round(part * 100)} %`;

const colours = { open: "red", probing: "yellow", ramping: "yellow", closed: "green" } as const;

/** Only the state, at the end of the line, is coloured; what is well stays plain. */
const coloured = (line: string, item: DependencyDetails, style: Style): string => {
  const at = line.lastIndexOf(item.state);
  if (at < 0 || (item.state === "closed" && item.forced === undefined)) return line;
  return `${line.slice(0, at)}${style(colours[item.state], item.state)}${line.slice(at + item.state.length)}`;
};
