import { systemRandom } from "./adapters/system/system-random.ts";
import { machineClock, systemTimers } from "./adapters/system/system-time.ts";
import { createApp } from "./admin/app.ts";
import { parseConfig } from "./config.ts";
import { connect } from "./connect.ts";
import { isEscapementError } from "./message/errors.ts";
import { createLog, type Log } from "./runtime/log.ts";
import { Metrics } from "./runtime/metrics.ts";
import { Service } from "./service.ts";

/**
 * The process: configuration, parts, service, HTTP; then it waits for a signal and stops. The first SIGTERM or SIGINT
 * stops in order, a second one at once.
 */
export const run = async (): Promise<void> => {
  const config = readConfig();
  const log = createLog(config.log);
  stopOnBugs(log);
  const surroundings = {
    log,
    machine: machineClock,
    timers: systemTimers,
    random: systemRandom,
    metrics: new Metrics(),
  };
  const parts = await connect(config, surroundings);
  const service = new Service(parts);
  await service.start();
  const app = createApp({ intake: service.intake, overview: service, log, timers: systemTimers });
  await app.listen({ host: config.http.host, port: config.http.port });
  log.info({ http: `http://${config.http.host}:${config.http.port}` }, "listening");

  let signals = 0;
  const stop = (signal: string): void => {
    if (++signals > 1) {
      log.warn({ signal }, "second signal, leaving at once");
      process.exit(1);
    }
    log.info({ signal }, "stopping; a second signal leaves at once");
    void (async () => {
      // Requests under way are answered; new ones are refused from now on.
      await service.stop(app.close());
      process.exit(0);
    })();
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
};

const readConfig = (): ReturnType<typeof parseConfig> => {
  try {
    return parseConfig(process.env, { pid: process.pid, terminal: process.stdout.isTTY === true });
  } catch (error) {
    if (!isEscapementError(error, "invalid_config")) throw error;
    process.stderr.write(`escapement cannot start, the configuration has mistakes:\n${indent(error.message)}\n`);
    process.exit(2);
  }
};

const indent = (text: string): string => text.replace(/^/gm, "  ");

/** A bug stops the process, loudly: others take over its shards, and nothing half-known goes on sending. */
const stopOnBugs = (log: Log): void => {
  const stop = (error: unknown): void => {
    log.fatal({ err: error }, "bug: stopping at once");
    process.exit(70);
  };
  process.on("uncaughtException", stop);
  process.on("unhandledRejection", stop);
};

if (import.meta.main) {
  await run().catch((error: unknown) => {
    process.stderr.write(`escapement cannot start: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  });
}
