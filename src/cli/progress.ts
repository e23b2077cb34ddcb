import { duration, number } from "./wording.ts";

/** The one line that shows how far a file is. Pure: what it shows is given, so is the time. */

export type FileProgress = {
  readonly accepted: number;
  readonly rejected: number;
  /** Bytes of the input whose lines have their results. */
  readonly doneBytes: number;
  /** Size of the input; undefined for a pipe. */
  readonly totalBytes: number | undefined;
  readonly elapsedMs: number;
};

const barWidth = 24;

export const perSecond = ({ accepted, rejected, elapsedMs }: FileProgress): number =>
  Math.round(((accepted + rejected) * 1_000) / Math.max(1, elapsedMs));

export const progressLine = (progress: FileProgress, columns: number): string => {
  const { accepted, rejected, doneBytes, totalBytes, elapsedMs } = progress;
  const parts = [`${number(accepted)} accepted`];
  if (rejected > 0) parts.push(`${number(rejected)} rejected`);
  parts.push(`${number(perSecond(progress))}/s`);
  let bar = "";
  if (totalBytes !== undefined && totalBytes > 0) {
    const done = Math.min(1, doneBytes / totalBytes);
    const filled = Math.round(done * barWidth);
    bar = `${"█".repeat(filled)}${"░".repeat(barWidth - filled)} ${String(Math.floor(done * 100)).padStart(3)} %  `;
    // A first guess from a hundredth of the file is wrong more often than it helps.
    if (done > 0.01 && done < 1) parts.push(`${duration(roundUp((elapsedMs * (1 - done)) / done))} left`);
  }
  return `${bar}${parts.join("  ")}`.slice(0, Math.max(0, columns - 1));
};

const roundUp = (ms: number): number => Math.ceil(ms / 1_000) * 1_000;
