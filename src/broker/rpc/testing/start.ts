import { machineClock, systemTimers } from "../../../adapters/system/system-time.ts";
import { epochMs } from "../../../message/time.ts";
import type { Clock } from "../../../runtime/clock.ts";
import { silentLog } from "../../../runtime/log.ts";
import type { Timers } from "../../../runtime/timers.ts";
import { MessagingService } from "../messaging-service.ts";
import { startBrokerServer } from "../server.ts";
import { createFakeBroker } from "./fake-broker.ts";

/** A server on a free port with a fake broker behind it. */
export const testClock: Clock = {
  nowMs: () => epochMs(machineClock.wallMs()),
  monotonicMs: machineClock.monotonicMs,
};

export const startTestServer = async (timers: Timers = systemTimers) => {
  const parts = { clock: testClock, timers, log: silentLog };
  const broker = createFakeBroker(testClock, systemTimers);
  const service = new MessagingService({ broker, ...parts });
  const server = await startBrokerServer({ host: "127.0.0.1", port: 0, broker, service, ...parts });
  return {
    broker,
    service,
    server,
    endpoint: `127.0.0.1:${server.address.port}`,
    async stop() {
      await service.stop();
      await server.close();
    },
  };
};
