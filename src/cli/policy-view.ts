import type { ReplayedMessage } from "../retry/replay.ts";
import type { Totals } from "../retry/replay-request.ts";
import type { PolicyListReply, PolicyReply, PolicyVersionsReply, RetryBinding } from "../wire/http.ts";
import type { Style } from "./output.ts";
import { counted, duration, number, printable, table } from "./wording.ts";

/** Stored retry policies, bindings and replays as pages for people. Pure. */

export const viewPolicies = ({ policies }: PolicyListReply, style: Style): string[] =>
  headed(style, [
    ["name", "version", "bound", ""],
    ...policies.map(({ name, version, preset, bindings, deadTopic, summary }) => [
      name,
      preset ? "preset" : `@${version}`,
      bindings === 0 ? "-" : counted(bindings, "place"),
      printable(summary ?? (deadTopic === undefined ? "" : `sends its dead to ${deadTopic}`)),
    ]),
  ]);

export const viewPolicy = (found: PolicyReply, style: Style): string[] => {
  const { name, version, latest, preset, deleted, policy } = found;
  const about = [
    ...(preset ? ["it comes with the program"] : [writtenBy(found)]),
    ...(deleted ? ["the policy was deleted since"] : version === latest ? [] : [`the newest is @${latest}`]),
  ];
  return [
    `${style("bold", preset ? name : `${name}@${version}`)}  ${style("dim", about.join("; "))}`,
    ...(policy === null ? ["deleted in this version"] : JSON.stringify(policy, null, 2).split("\n")),
  ];
};

export const viewVersions = ({ name, versions, more }: PolicyVersionsReply, style: Style): string[] => [
  ...headed(style, [
    ["version", "written", "by", "why"],
    ...versions.map(({ version, deleted, at, by = "-", why = "" }) => [
      `${name}@${version}${deleted ? " (deleted)" : ""}`,
      at,
      printable(by),
      printable(why),
    ]),
  ]),
  ...(more ? [style("dim", `older ones with --before ${versions.at(-1)?.version}`)] : []),
];

const writtenBy = ({ at = "", by, why }: PolicyReply): string =>
  `written ${at}${by === undefined ? "" : ` by ${printable(by)}`}${why === undefined ? "" : `: ${printable(why)}`}`;

export const viewBindings = (bindings: readonly RetryBinding[], style: Style): string[] =>
  bindings.length === 0
    ? ["nothing is bound: everything goes by the preset default"]
    : headed(style, [
        ["group", "topic", "tag", "policy"],
        ...bindings.map(({ group = "*", topic = "*", tag = "*", policy }) => [group, topic, printable(tag), policy]),
      ]);

export const viewReplay = (
  { recorded, results }: { recorded: Totals; results: readonly (Totals & { policy: string })[] },
  style: Style,
): string[] => [
  ...headed(style, [
    [
      "policy",
      "calls",
      "a message",
      "most calls/s",
      "succeeded",
      "dead",
      "parked",
      "to verify",
      "delay p50",
      "p99",
      "most",
    ],
    row("as recorded", recorded),
    ...results.map((result) => row(result.policy, result)),
  ]),
  ...results.flatMap(({ policy, deadByCode }) => {
    const causes = Object.entries(deadByCode);
    return causes.length === 0
      ? []
      : [style("dim", `${policy}: dead by ${causes.map(([code, dead]) => `${code} ${number(dead)}`).join(", ")}`)];
  }),
];

const row = (
  name: string,
  { messages, calls, mostCallsPerSec, succeeded, dead, parked, toVerify, delayMs }: Totals,
) => [
  name,
  calls,
  (calls / messages).toFixed(1),
  mostCallsPerSec,
  succeeded,
  dead,
  parked,
  toVerify,
  ...(succeeded === 0 ? ["-", "-", "-"] : [delayMs.p50, delayMs.p99, delayMs.max].map(duration)),
];

export const viewReplayed = (messages: readonly ReplayedMessage[], style: Style): string[] =>
  headed(style, [
    ["message", "outcome", "calls", "after"],
    ...messages.map(({ message, outcome, code, calls, afterMs }) => [
      printable(message),
      code === undefined ? outcome : `${outcome} (${code})`,
      calls,
      afterMs === 0 ? "at once" : duration(afterMs),
    ]),
  ]);

const headed = (style: Style, rows: readonly (readonly (string | number)[])[]): string[] => {
  const [head, ...rest] = table(rows);
  return [style("bold", head!), ...rest];
};
