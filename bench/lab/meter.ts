import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import type { Role, Row } from "./row.ts";

/**
 * CPU of processes between two instants, from /proc. The kernel counts in ticks of 10 ms, so a short measurement of a
 * process that does little is coarse: one tick over 5,000 messages is 2 µs.
 */
export type Processes = Partial<Record<Role, number | readonly number[]>>;

export type Measured = Pick<Row, "perSecond" | "cpuMicros" | "othersShare"> & {
  readonly seconds: number;
  readonly void?: string;
};

const microsPerTick = 10_000;
/** Above this the generator may have measured itself. */
const generatorShareMax = 0.8;
/** Above this the machine under us was busy with someone else's machine. */
const stealShareMax = 0.02;

/** User and system time of a process so far; 0 when it has gone. */
export const cpuMicros = (pid: number): number => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * microsPerTick;
  } catch {
    return 0;
  }
};

/** Of the whole machine: what was used by anyone, and what the host took from it. */
const machineMicros = (): { busy: number; stolen: number } => {
  const [user, nice, system, , , irq, softirq, steal] = readFileSync("/proc/stat", "utf8")
    .split("\n")[0]!
    .trim()
    .split(/\s+/)
    .slice(1)
    .map((ticks) => Number(ticks) * microsPerTick) as [number, number, number, number, number, number, number, number];
  return { busy: user + nice + system + irq + softirq, stolen: steal };
};

export class Meter {
  readonly #processes: [Role, readonly number[]][];
  readonly #before: readonly number[];
  readonly #machine = machineMicros();
  readonly #beganMs = performance.now();

  constructor(processes: Processes) {
    this.#processes = Object.entries(processes).map(([role, pids]) => [
      role as Role,
      typeof pids === "number" ? [pids] : (pids as readonly number[]),
    ]);
    this.#before = this.#read();
  }

  /** `tookMs` when what was measured ended before now. */
  stop(messages: number, tookMs = performance.now() - this.#beganMs): Measured {
    const wallMs = performance.now() - this.#beganMs;
    const machine = machineMicros();
    const used = this.#read().map((micros, i) => micros - this.#before[i]!);
    const cpu: Partial<Record<Role, number>> = {};
    let ours = 0;
    let generator = 0;
    this.#processes.forEach(([role], i) => {
      cpu[role] = used[i]! / messages;
      ours += used[i]!;
      if (role === "generator") generator = used[i]! / 1000 / wallMs;
    });
    const capacity = wallMs * 1000 * cpus().length;
    const stolen = (machine.stolen - this.#machine.stolen) / capacity;
    const others = Math.max(0, (machine.busy - this.#machine.busy - ours) / capacity);
    const reasons: string[] = [];
    if (generator > generatorShareMax) reasons.push(`the generator used ${(generator * 100).toFixed(0)} % of a core`);
    if (stolen > stealShareMax) reasons.push(`${(stolen * 100).toFixed(0)} % of the machine was stolen`);
    return {
      seconds: tookMs / 1000,
      perSecond: (messages / tookMs) * 1000,
      cpuMicros: cpu,
      othersShare: others,
      ...(reasons.length === 0 ? {} : { void: reasons.join("; ") }),
    };
  }

  #read(): number[] {
    return this.#processes.map(([, pids]) => pids.reduce((sum, pid) => sum + cpuMicros(pid), 0));
  }
}
