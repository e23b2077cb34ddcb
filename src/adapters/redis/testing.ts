import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stopServices } from "../../../scripts/services.mjs";
import { durationMs, epochMs } from "../../message/time.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { RedisDelayStoreOptions } from "./redis-delay-store.ts";

/** What the tests of this folder share: a clock, names of their own, Redis servers of their own, and a bad network. */
export const machineClock: Clock = { nowMs: () => epochMs(Date.now()), monotonicMs: () => performance.now() };

/** Tests share a Redis; each takes a namespace that nobody else has. */
export const ownNamespace = (): string => `test-${randomBytes(6).toString("hex")}`;

export const storeOptions = (address: string, dedupeWindowMs?: number): RedisDelayStoreOptions => ({
  address,
  clock: machineClock,
  namespace: ownNamespace(),
  ...(dedupeWindowMs === undefined ? {} : { dedupeWindowMs: durationMs(dedupeWindowMs) }),
});

/** A folder for servers that a test starts for itself; `stop` ends them all. */
export const ownRunDir = () => {
  const runDir = mkdtempSync(join(tmpdir(), "redis-adapter-"));
  const stop = async (): Promise<void> => {
    await stopServices({ runDir }); // when this fails the folder stays: it knows what still runs
    rmSync(runDir, { recursive: true, force: true });
  };
  return { runDir, stop };
};

/**
 * A network between a store and its Redis. It can swallow replies, while requests pass and take effect, and it can cut
 * every connection over which a certain command is sent.
 */
export const unkindProxy = async (targetPort: number) => {
  let isSwallowing = false;
  let deadlyCommand: string | undefined;
  let cuts = 0;
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(targetPort, "127.0.0.1");
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        near.destroy();
        far.destroy();
        sockets.delete(socket);
      });
    }
    near.on("data", (bytes) => {
      if (deadlyCommand !== undefined && bytes.includes(deadlyCommand)) {
        cuts++;
        near.destroy();
      } else {
        far.write(bytes);
      }
    });
    far.on("data", (bytes) => {
      if (!isSwallowing) near.write(bytes);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    url: `redis://127.0.0.1:${address.port}`,
    swallow: (yes: boolean): void => {
      isSwallowing = yes;
    },
    /** Until it is called with undefined. */
    cutOn: (command: string | undefined): void => {
      deadlyCommand = command;
    },
    /** So many connections ended by `cutOn`. */
    cuts: (): number => cuts,
    cut: (): void => {
      for (const socket of sockets) socket.destroy();
    },
    close: async (): Promise<void> => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
};
