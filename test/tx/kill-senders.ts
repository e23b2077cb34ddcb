import { performance } from "node:perf_hooks";
import { startMysql, startRocketmq, stopServices } from "../../scripts/services.mjs";
import { faultsOf } from "./crash-books.ts";
import { crashBrokerConfig } from "./crash-broker.ts";
import { runCrashes } from "./crash-matrix.ts";
import { crashTable } from "./crash-table.ts";

/** The crash matrix from a shell, on a MariaDB and, if it is to be real, a RocketMQ of its own. ctrl+c, and the minutes' end, finish the round and tell. */
export const killSenders = async ({
  runDir,
  kills,
  minutes,
  seed,
  rocketmq,
  out,
  say,
}: {
  readonly runDir: string;
  readonly kills: number;
  readonly minutes: number;
  readonly seed: number;
  readonly rocketmq: boolean;
  readonly out: (line: string) => void;
  readonly say: (line: string) => void;
}): Promise<number> => {
  const enough = new AbortController();
  const stop = (): void => enough.abort();
  const timer = setTimeout(stop, minutes * 60_000);
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, stop);
  const beganMs = performance.now();
  const seconds = (): number => Math.round((performance.now() - beganMs) / 1_000);
  try {
    const { url } = await startMysql({ runDir, say });
    const real = rocketmq ? { rocketmq: await startRocketmq({ runDir, config: crashBrokerConfig, say }) } : {};
    const report = await runCrashes({ kills, seed, serverUrl: url, ...real, signal: enough.signal }, (soFar) =>
      say(`${soFar.kills} kills, ${soFar.survivors + faultsOf(soFar.cells).length} faults, ${seconds()} s`),
    );
    out(crashTable(report.cells));
    const faults = faultsOf(report.cells);
    for (const { fault, text } of faults) out(`${fault}: ${text}`);
    out(
      `${report.kills} kills, ${report.survivors} programs that did not come to their step, ${faults.length} faults; seed ${seed}, ${seconds()} s`,
    );
    return faults.length + report.survivors === 0 ? 0 : 1;
  } finally {
    clearTimeout(timer);
    await stopServices({ names: rocketmq ? ["mysql", "rocketmq"] : ["mysql"], runDir });
  }
};
