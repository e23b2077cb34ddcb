import type { Trace } from "./trace.ts";

export type ToldRun = {
  readonly options: {
    readonly seed: number;
    readonly troubles: object;
    readonly service?: { readonly troubles: object };
  };
  readonly violations: readonly { readonly rule: string; readonly text: string; readonly ids: readonly string[] }[];
  readonly trace: Trace;
  readonly events: number;
  readonly simulatedMs: number;
};

/** A failed seed in words: what the world was like, what was promised, and the history of the message it happened to. */
export const report = (run: ToldRun, verbose = false): string => {
  const { options, violations, trace, events, simulatedMs } = run;
  const { seed, troubles: own, service, ...facts } = options;
  const troubles = {
    ...own,
    ...Object.fromEntries(Object.entries(service?.troubles ?? {}).map(([name, value]) => [`service.${name}`, value])),
  };
  const present = Object.entries(troubles).filter(([, value]) => value !== false && value !== 0);
  const lines = [
    `seed ${seed}: ${violations.length === 0 ? "all promises kept" : `${violations.length} promises broken`}` +
      ` (${events} events, ${(simulatedMs / 1000).toFixed(1)} s simulated)`,
    `  world     ${Object.entries(facts)
      .map(([name, value]) => `${name}=${typeof value === "object" ? JSON.stringify(value) : value}`)
      .join(" ")}`,
    `  troubles  ${present.map(([name, value]) => `${name}=${value}`).join(" ") || "none"}`,
  ];
  for (const { rule, text, ids } of violations.slice(0, violationsShown)) {
    lines.push("", `  ✗ ${rule}`, `    ${text}`, ...ids.map((id) => `    message ${id}`));
  }
  if (violations.length > violationsShown) lines.push("", `  … and ${violations.length - violationsShown} more`);
  const first = violations.find(({ ids }) => ids.length > 0);
  if (verbose) lines.push("", "  everything that happened:", trace.tell());
  else if (first !== undefined) {
    lines.push(
      "",
      `  the history of ${first.ids.join(", ")}, with what happened around it:`,
      trace.tell(new Set(first.ids)),
    );
  } else if (violations.length > 0) lines.push("", "  what happened around it:", trace.tell(new Set()));
  if (violations.length > 0)
    lines.push(
      "",
      `  again, with everything: npm run sim --${service === undefined ? "" : " --consumers"} --seed ${seed} --verbose`,
    );
  return lines.join("\n");
};

const violationsShown = 6;
