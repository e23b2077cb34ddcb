import type { End, ExplainedAttempt, Explanation, Span } from "../retry/explain.ts";
import type { Style } from "./output.ts";
import { counted, duration, printable, table } from "./wording.ts";

/** An explanation of a retry policy as a page for people. Pure: the same explanation gives the same lines. */
export const viewExplanation = (explanation: Explanation, style: Style): string[] => {
  const { attempts, attemptsLeftOut, fewestAttempts, typically, mostAttempts, besides } = explanation;
  const [head, ...rows] = table([
    ["attempt", "fails, then", "wait on average", "shortest … longest", "next attempt after"],
    ...attempts.map(rowOf),
  ]);
  const sure = typically.attempt === fewestAttempts.attempt && typically.attempt === mostAttempts.attempt;
  return [
    style("bold", head!),
    ...rows,
    ...(attemptsLeftOut === 0 ? [] : [style("dim", `and ${counted(attemptsLeftOut, "more attempt")}`)]),
    "",
    style("bold", "What ends it"),
    ...table([
      [sure ? "always" : "waits of mean length", ...endOf(typically)],
      ...(sure
        ? []
        : [
            ["longest waits", ...endOf(fewestAttempts)],
            ["shortest waits", ...endOf(mostAttempts)],
          ]),
    ]),
    ...(besides.length === 0 ? [] : ["", style("bold", "Besides"), ...besides.map(printable)]),
  ];
};

/** Why it is no retry stands below, where the ends are. */
const rowOf = ({ attempt, decision, certain, waitMs, sinceFirstMs }: ExplainedAttempt): (string | number)[] => [
  attempt,
  `${decision}${certain ? "" : " (perhaps)"}`,
  ...(waitMs === undefined || sinceFirstMs === undefined
    ? []
    : [duration(waitMs.meanMs), bounds(waitMs), decision === "retry" ? duration(sinceFirstMs.meanMs) : ""]),
];

const bounds = ({ minMs, maxMs }: Span): string =>
  minMs === maxMs ? "exactly" : `${duration(minMs)} … ${duration(maxMs)}`;

const endOf = ({ decision, attempt, afterMs, text }: End): string[] => [
  decision,
  `attempt ${attempt}`,
  afterMs === 0 ? "at once" : `after ${duration(afterMs)}`,
  printable(text),
];
