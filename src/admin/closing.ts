import type { Server } from "node:http";
import type { Timers } from "../runtime/timers.ts";

/**
 * Lets a server that was told to close really close. Node waits for every connection, also for those that were busy
 * when it began and then stay open for the peer's next request, and for those on which nothing was ever sent. So idle
 * ones are closed again and again, and after `graceMs` all of them.
 */
export const finishClosing = (server: Server, timers: Timers, graceMs: number): void => {
  let closed = false;
  const sweep = timers.after(0, function again() {
    if (closed) return;
    server.closeIdleConnections();
    timers.after(sweepMs, again);
  });
  const last = timers.after(graceMs, () => server.closeAllConnections());
  server.once("close", () => {
    closed = true;
    sweep.cancel();
    last.cancel();
  });
};

const sweepMs = 50;
