import { killService, startAgain, startRocketmq, stopServices } from "../../scripts/services.mjs";
import { createRemotingAdmin } from "../../src/adapters/rocketmq/remoting-admin.ts";
import { systemTimers } from "../../src/adapters/system/system-time.ts";
import { administered, adminMaxMs } from "./administered.ts";
import type { Target } from "./target.ts";

/**
 * The real RocketMQ in a run folder of its own. Transactions are checked quickly, or a check-back would take half a
 * minute; the broker's timer is as fine as it gets, as ours is.
 */
export const startRealTarget = async (runDir: string): Promise<Target> => {
  await stopServices({ names: ["rocketmq"], runDir });
  let handle = await startRocketmq({
    runDir,
    timerPrecisionMs: 100,
    config: { transactionTimeOut: 2_000, transactionCheckInterval: 1_000, transactionOpBatchInterval: 200 },
    say: (line) => process.stderr.write(`${line}\n`),
  });
  const admin = createRemotingAdmin({ broker: handle.broker, timers: systemTimers, timeoutMs: adminMaxMs });
  return {
    name: "real",
    title: "RocketMQ 5.5.0",
    endpoint: handle.endpoint,
    ...administered(admin),
    async restart() {
      await killService(handle, "SIGKILL", { role: "proxy" });
      handle = await startAgain(handle);
    },
    stop: async () => void (await stopServices({ names: ["rocketmq"], runDir })),
  };
};
