import { systemRandom } from "./adapters/system/system-random.ts";
import { machineClock, systemTimers } from "./adapters/system/system-time.ts";
import { createApp } from "./admin/app.ts";
import { type Config, parseConfig } from "./config.ts";
import { connect, type Surroundings } from "./connect.ts";
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
  // Whoever is told to stop while it starts finishes that first: a shard it has just taken must not wait for its lease.
  const starting = start(config, surroundings);
  let signals = 0;
  const onSignal = (signal: string): void => {
    if (++signals > 1) {
      log.warn({ signal }, "second signal, leaving at once");
      process.exit(1);
    }
    log.info({ signal }, "stopping; a second signal leaves at once");
    void starting.then(
      async (stop) => {
        await stop();
        process.exit(0);
      },
      () => {}, // Said below, where it is awaited.
    );
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  await starting;
};

/** @returns how to stop it. */
const start = async (config: Config, surroundings: Surroundings): Promise<() => Promise<void>> => {
  const { log, timers } = surroundings;
  const service = new Service(await connect(config, surroundings));
  await service.start();
  const app = createApp({ intake: service.intake, overview: service, log, timers });
  // Requests under way are answered; new ones are refused from now on.
  const stop = (): Promise<void> => service.stop(app.close());
  try {
    await app.listen({ host: config.http.host, port: config.http.port });
  } catch (error) {
    await stop();
    throw error;
  }
  log.info({ http: `http://${config.http.host}:${config.http.port}` }, "listening");
  return stop;
};

const readConfig = (): Config => {
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
