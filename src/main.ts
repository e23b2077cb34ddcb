import { systemRandom } from "./adapters/system/system-random.ts";
import { machineClock, systemTimers } from "./adapters/system/system-time.ts";
import { createApp } from "./admin/app.ts";
import { type Config, parseConfig } from "./config.ts";
import { connect, type Surroundings } from "./connect.ts";
import { notListening, shownAddress } from "./listen-address.ts";
import { isEscapementError } from "./message/errors.ts";
import { runProcess } from "./run-process.ts";
import { createLog } from "./runtime/log.ts";
import { Metrics } from "./runtime/metrics.ts";
import { Service } from "./service.ts";
import { welcome } from "./welcome.ts";

/** The process: configuration, parts, service, HTTP. */
export const run = async (): Promise<void> => {
  const config = readConfig();
  const log = createLog(config.log);
  const surroundings = {
    log,
    machine: machineClock,
    timers: systemTimers,
    random: systemRandom,
    metrics: new Metrics(),
  };
  await runProcess(log, () => start(config, surroundings));
};

/** @returns how to stop it. */
const start = async (config: Config, surroundings: Surroundings): Promise<() => Promise<void>> => {
  const { log, timers } = surroundings;
  const parts = await connect(config, surroundings);
  const { groups } = parts;
  const service = new Service(parts);
  await service.start();
  const { intake, retry } = service;
  const { dead, policies, dependencies } = retry;
  const app = createApp({ intake, dead, overview: service, groups, policies, dependencies, log, timers });
  // Requests under way are answered; new ones are refused from now on.
  const stop = (): Promise<void> => service.stop(app.close());
  try {
    await app.listen({ host: config.http.host, port: config.http.port });
  } catch (error) {
    await stop();
    throw notListening(error, config.http, "the HTTP API", "HTTP_ADDR");
  }
  log.info({ http: `http://${shownAddress(config.http)}` }, "listening");
  // Not into the log of a server that somebody runs in earnest.
  if (config.rocketmq === undefined || process.stderr.isTTY === true) process.stderr.write(welcome(config));
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

if (import.meta.main) {
  await run().catch((error: unknown) => {
    process.stderr.write(`escapement cannot start: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  });
}
