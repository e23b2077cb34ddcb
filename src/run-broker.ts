import { systemRandom } from "./adapters/system/system-random.ts";
import { machineClock, systemTimers } from "./adapters/system/system-time.ts";
import { runProcess } from "./run-process.ts";
import { createLog } from "./runtime/log.ts";
import { type StartBrokerOptions, startBroker } from "./start-broker.ts";

/** `escapement broker`: the embedded broker as a process of its own. */
export const runBroker = async (options: StartBrokerOptions): Promise<void> => {
  const log = createLog({ level: process.env.LOG_LEVEL ?? "info", pretty: process.stdout.isTTY === true });
  await runProcess(log, async () => {
    const surroundings = { log, machine: machineClock, timers: systemTimers, random: systemRandom };
    const broker = await startBroker({ ...options, ...surroundings });
    const { folder = "in memory only" } = options;
    log.info({ broker: broker.endpoint, folder }, "a RocketMQ 5 broker for development is listening");
    return () => broker.stop();
  });
};
