import type { Log } from "./runtime/log.ts";

/**
 * The life of a process that serves: starts, waits for a signal, stops. The first SIGTERM or SIGINT stops in order, a
 * second one at once. Rejects when the start fails.
 */
export const runProcess = async (log: Log, start: () => Promise<() => Promise<void>>): Promise<void> => {
  stopOnBugs(log);
  // Whoever is told to stop while it starts finishes that first: a shard it has just taken must not wait for its lease.
  const starting = start();
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
      () => {}, // Said by whoever called, to whom it is thrown.
    );
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  await starting;
};

/** A bug stops the process, loudly: others take over its work, and nothing half-known goes on. */
const stopOnBugs = (log: Log): void => {
  const stop = (error: unknown): void => {
    log.fatal({ err: error }, "bug: stopping at once");
    process.exit(70);
  };
  process.on("uncaughtException", stop);
  process.on("unhandledRejection", stop);
};
