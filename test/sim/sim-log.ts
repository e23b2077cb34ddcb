import { isEscapementError } from "../../src/message/errors.ts";
import type { Log } from "../../src/runtime/log.ts";
import type { Ledger } from "./ledger.ts";
import type { SimNode } from "./sim-node.ts";
import type { World } from "./world.ts";

/** A process's log: into the trace; and what no trouble of the world explains is a bug that was caught and logged. */
export const simLog = (world: World, ledger: Ledger, node: SimNode): Log => {
  const write = (level: string) => (fields: unknown, text?: string) => {
    world.trace.note(node.name, `log ${level}: ${text}`);
    const { err, loop } = fields as { err?: unknown; loop?: string };
    const isTrouble =
      err === undefined || isEscapementError(err) || (err instanceof Error && err.message === "broker_unavailable");
    if (level === "fatal" || !isTrouble) {
      const stack = err instanceof Error ? err.stack : String(err);
      ledger.seen.push({ rule: "bug logged", text: `${node.name} ${loop ?? ""}: ${text}: ${stack}`, ids: [] });
    }
  };
  return {
    debug: () => {},
    info: () => {},
    warn: write("warn"),
    error: write("error"),
    fatal: write("fatal"),
  } as Log;
};
