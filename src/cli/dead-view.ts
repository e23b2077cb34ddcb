import type { DeadAuditEntry, DeadDetails, DeadGroupReply, RedriveDryRunReply, RedriveReply } from "../wire/dead.ts";
import type { Style } from "./output.ts";
import { counted, fromNow, number, printable, table } from "./wording.ts";

/** The dead as people read them: pure functions from replies to lines. */

const textMax = 60;

export const viewDeadList = (items: readonly DeadDetails[], style: Style, nowMs: number): string[] => {
  const [head, ...rows] = table([
    ["id", "died", "topic", "group", "code", "last failure"],
    ...items.map((item) => [
      item.id,
      fromNow(item.endedAt ?? "", nowMs),
      printable(item.retry?.originTopic ?? item.topic ?? "-"),
      printable(item.retry?.group ?? "-"),
      printable(item.reason?.code ?? "-"),
      short(item.retry?.history.at(-1)?.text ?? item.reason?.detail ?? ""),
    ]),
  ]);
  return [style("bold", head!), ...rows];
};

export const viewDeadGroups = (groups: readonly DeadGroupReply[], style: Style, nowMs: number): string[] => {
  const [head, ...rows] = table([
    ["count", "topic", "group", "code", "fingerprint", "first", "last", "for example"],
    ...groups.map((group) => [
      group.count,
      printable(group.topic),
      printable(group.group ?? "-"),
      printable(group.code),
      printable(group.fingerprint ?? "-"),
      fromNow(group.firstAt, nowMs),
      fromNow(group.lastAt, nowMs),
      short(group.sample.text),
    ]),
  ]);
  return [style("bold", head!), ...rows];
};

/** What a consumer wrote with it, behind what every message has. */
export const viewRetry = ({ retry }: DeadDetails, style: Style, nowMs: number): string[] => {
  if (retry === undefined) return [];
  const { history, replays } = retry;
  const rows: [string, string][] = [
    ["given up by", retry.group],
    ["came from", `${retry.originTopic}, message ${retry.originId}`],
    ["attempts", `${retry.attempts}${retry.crashes > 0 ? `, ${counted(retry.crashes, "crash", "crashes")}` : ""}`],
    ["policy", retry.policy],
    ["replays", replays === 0 ? "never brought back" : `brought back ${counted(replays, "time")}`],
  ];
  const [head, ...lines] = table([
    ["attempt", "when", "class", "code", "fingerprint", "text"],
    ...history.map((one) => [
      one.attempt,
      fromNow(one.at, nowMs),
      one.class,
      printable(one.code),
      printable(one.fingerprint),
      printable(one.text),
    ]),
  ]);
  return [
    "",
    ...rows.map(([name, text]) => `${name.padEnd(11)}  ${printable(text)}`),
    ...(history.length === 0 ? [] : ["", style("bold", head!), ...lines]),
  ];
};

/** The honest end of every bounded look. */
export const viewLooked = (what: string, scanned: number, complete: boolean, cursor: string | undefined): string =>
  complete
    ? `${what}; ${counted(scanned, "message")} looked at, that was all`
    : `${what} in the first ${counted(scanned, "message")} looked at; there is more: --cursor '${cursor}'`;

export const viewDryRun = (reply: RedriveDryRunReply, style: Style, nowMs: number): string[] => {
  const skipped = Object.entries(reply.skipped).map(([reason, count]) => `${number(count)} ${reason}`);
  return [
    `Would bring back ${counted(reply.matched, "message")}${reply.complete ? "" : " at least"}; ${counted(reply.scanned, "message")} looked at${reply.complete ? "" : ", and there are more"}.`,
    ...(skipped.length === 0 ? [] : [`Would leave alone: ${skipped.join(", ")}.`]),
    ...(reply.sample.length === 0 ? [] : ["", ...viewDeadList(reply.sample, style, nowMs)]),
  ];
};

export const viewRedrive = (redrive: RedriveReply, style: Style, nowMs: number): string[] => {
  const rows: [string, string | undefined][] = [
    ["redrive", redrive.id],
    ["state", `${redrive.state}, since ${fromNow(redrive.since, nowMs)}`],
    ["note", redrive.note],
    ["selection", filterText(redrive)],
    ["begun", `${redrive.createdAt} by ${redrive.by}: ${redrive.reason}`],
    ["pace", `${redrive.rate} a second, canary ${redrive.canary}, stops above ${redrive.stopAbove} %`],
    ["looked at", `${number(redrive.scanned)}${redrive.selected ? ", that was all" : " so far"}`],
  ];
  return [
    ...rows.flatMap(([name, text]) => (text === undefined ? [] : [`${name.padEnd(10)}  ${printable(text)}`])),
    `${"outcomes".padEnd(10)}  ${style("bold", countsText(redrive))}`,
  ];
};

export const countsText = ({ counts }: RedriveReply): string => {
  const parts: [number, string][] = [
    [counts.sent, "sent"],
    [counts.succeeded, "succeeded"],
    [counts.failed, "failed, being retried"],
    [counts.deadAgain, "dead again"],
    [counts.canceled, "canceled"],
    [counts.pending, "pending"],
    [counts.skipped, "left alone"],
  ];
  return parts
    .filter(([count], i) => count > 0 || i < 2)
    .map(([count, name]) => `${number(count)} ${name}`)
    .join(", ");
};

export const viewRedrives = (redrives: readonly RedriveReply[], style: Style, nowMs: number): string[] => {
  const [head, ...rows] = table([
    ["redrive", "state", "begun", "by", "selection", "outcomes"],
    ...redrives.map((one) => [
      one.id,
      one.state,
      fromNow(one.createdAt, nowMs),
      printable(one.by),
      filterText(one),
      countsText(one),
    ]),
  ]);
  return [style("bold", head!), ...rows];
};

export const viewAudit = (entries: readonly DeadAuditEntry[], style: Style): string[] => {
  const [head, ...rows] = table([
    ["when", "what", "by", "messages", "redrive", "why"],
    ...entries.map((entry) => [
      entry.at,
      printable(`${entry.action} ${entry.what}`.trim()),
      printable(entry.by),
      entry.count === undefined ? "" : number(entry.count),
      entry.redrive ?? "",
      printable(entry.reason),
    ]),
  ]);
  return [style("bold", head!), ...rows];
};

const filterText = ({ filter }: RedriveReply): string => {
  const { ids, ...rest } = filter;
  const parts = Object.entries(rest).map(([name, value]) => `${name}=${value}`);
  if (ids !== undefined) parts.push(ids.length === 1 ? ids[0]! : `${ids.length} ids`);
  return parts.length === 0 ? "all" : printable(parts.join(" "));
};

const short = (text: string): string => printable(text.length > textMax ? `${text.slice(0, textMax - 1)}…` : text);
