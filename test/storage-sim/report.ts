import type { StorageRun } from "./simulate.ts";

const violationsShown = 6;

/** A seed in words, with how to live through it again. */
export const report = ({ options, violations, trace, stored, starts }: StorageRun, verbose = false): string => {
  const { seed, troubles, ...rest } = options;
  const present = Object.entries(troubles).filter(([, there]) => there);
  const lines = [
    `seed ${seed}: ${violations.length === 0 ? "all promises kept" : `${violations.length} promises broken`}` +
      ` (${stored} messages stored, ${starts} starts)`,
    `  world     ${Object.entries(rest)
      .map(([name, value]) => `${name}=${value}`)
      .join(" ")}`,
    `  troubles  ${present.map(([name]) => name).join(" ") || "none"}`,
    ...violations.slice(0, violationsShown).map(({ rule, text }) => `  ✗ ${rule}\n    ${text}`),
  ];
  if (verbose || violations.length > 0) lines.push("", trace.tell());
  if (violations.length > 0) lines.push("", `  again: node test/storage-sim/main.ts --seed ${seed} --verbose`);
  return lines.join("\n");
};
