import { armFailpoints } from "../../../src/runtime/failpoint.ts";

/**
 * Loaded into a server before its own code (`node --import`): ESC_FAILPOINT=name:nth kills the process, as kill -9
 * does, when it comes to that point for the nth time. ESC_FAILPOINT_AFTER_MS keeps it from counting while it starts.
 */
const [name, nth] = (process.env.ESC_FAILPOINT ?? "").split(":");
const countFromMs = performance.now() + Number(process.env.ESC_FAILPOINT_AFTER_MS ?? 0);
let left = Number(nth);

armFailpoints((point) => {
  if (point !== name || performance.now() < countFromMs || --left > 0) return;
  process.kill(process.pid, "SIGKILL");
});
