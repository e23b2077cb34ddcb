import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { scheduler } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { nodeFiles } from "../files/node-files.ts";
import type { Flush } from "./segmented-log.ts";
import { openStore } from "./testing.ts";

const program = join(import.meta.dirname, "testing", "append-forever.ts");

type Acknowledged = { readonly queueId: number; readonly offset: number; readonly id: string };

/** Lets the program send for a while, then kills it. */
const sendAndKill = async (folder: string, flush: Flush, forMs: number): Promise<readonly Acknowledged[]> => {
  const child = spawn(process.execPath, [program, folder, flush], { stdio: ["ignore", "pipe", "inherit"] });
  const acknowledged: Acknowledged[] = [];
  const lines = createInterface({ input: child.stdout });
  lines.on("line", (line) => {
    const [, queueId, offset, id] = /^(\d+) (\d+) (\d+-\d+-\d+)$/.exec(line) ?? [];
    if (id !== undefined) acknowledged.push({ queueId: Number(queueId), offset: Number(offset), id });
  });
  await once(lines, "line");
  await scheduler.wait(forMs);
  const read = once(lines, "close");
  child.kill("SIGKILL");
  await Promise.all([once(child, "exit"), read]);
  // The kill may have cut the last line in two, and its id with it.
  return acknowledged.slice(0, -1);
};

describe("the message store", () => {
  it.each(["sync", "async"] as const)("killed again and again, has everything it acknowledged (%s)", async (flush) => {
    const folder = mkdtempSync(join(tmpdir(), "escapement-store-"));
    try {
      const all: Acknowledged[] = [];
      for (let round = 0; round < 5; round++) {
        all.push(...(await sendAndKill(folder, flush, 30 + 31 * round)));
        const store = await openStore({
          files: nodeFiles(folder),
          flush,
          segmentBytes: 1024 * 1024,
          entriesPerFile: 500,
        });
        for (let queueId = 0; queueId < 4; queueId++) {
          const { first, next } = store.range("orders", queueId);
          expect(first).toBe(0);
          const ids = store.entries("orders", queueId, 0, next).map((entry) => {
            const message = store.read(entry)!;
            expect(message.body.equals(Buffer.alloc(message.body.length, message.messageId))).toBe(true);
            return message.messageId;
          });
          expect(new Set(ids).size).toBe(next);
          const mine = all.filter((one) => one.queueId === queueId);
          expect(mine.filter(({ offset, id }) => ids[offset] !== id)).toEqual([]);
        }
        // Half of the times the next program finds a folder that nobody closed.
        if (round % 2 === 0) await store.close();
      }
      expect(all.length).toBeGreaterThan(1_000);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
