import { existsSync } from "node:fs";
import { armFailpoints } from "../../../src/runtime/failpoint.ts";

/**
 * Loaded into a server before its own code (`node --import`): ESC_FAILPOINT=name:nth kills the process, as kill -9
 * does, when it comes to that point for the nth time. With ESC_FAILPOINT_FILE it counts from when that file is there,
 * however long the start takes.
 */
const [name, nth] = (process.env.ESC_FAILPOINT ?? "").split(":");
const file = process.env.ESC_FAILPOINT_FILE;
let counts = file === undefined;
let left = Number(nth);

armFailpoints((point) => {
  if (point !== name) return;
  counts ||= existsSync(file!);
  if (!counts || --left > 0) return;
  process.kill(process.pid, "SIGKILL");
});
