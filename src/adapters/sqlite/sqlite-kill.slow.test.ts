import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { scheduler } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { StoreHands } from "../../delay/delay-store-hands.ts";
import { type MessageId, parseMessageId } from "../../message/id.ts";
import { machineClock } from "../system/system-time.ts";
import { SqliteBench } from "./testing/sqlite-bench.ts";

/** Other processes: one that is killed in the middle of its work, and one that holds the file. */

const program = join(import.meta.dirname, "testing", "schedule-forever.ts");

const start = async (folder: string) => {
  const child = spawn(process.execPath, [program, folder], { stdio: ["ignore", "pipe", "inherit"] });
  const acknowledged = new Map<MessageId, string>();
  const lines = createInterface({ input: child.stdout });
  lines.on("line", (line) => {
    const [what, id] = line.split(" ");
    const parsed = parseMessageId(id ?? "");
    // The line that the kill cut in two says nothing.
    if (parsed !== undefined && (what === "scheduled" || what === "canceled")) acknowledged.set(parsed, what);
  });
  await once(lines, "line");
  const kill = async () => {
    const read = once(lines, "close");
    child.kill("SIGKILL");
    await Promise.all([once(child, "exit"), read]);
  };
  return { acknowledged, kill };
};

describe("the sqlite store and other processes", () => {
  it("P1: killed in the middle of its work, again and again, it has everything that it acknowledged", async () => {
    await using bench = new SqliteBench();
    const all = new Map<MessageId, string>();
    for (let round = 0; round < 6; round++) {
      bench.nowMs = machineClock.wallMs(); // the program's clock, or what it ended would be forgotten
      const { acknowledged, kill } = await start(bench.folder);
      // However slow the disk is at the moment, it dies in the middle of something.
      while (acknowledged.size < 10) await scheduler.wait(10);
      await scheduler.wait(61 * round);
      await kill();
      for (const [id, what] of acknowledged) all.set(id, what);

      const store = await bench.open();
      const hands = new StoreHands({ store, close: () => store.close() });
      const near = new Set(await hands.near());
      for (const [id, what] of all) {
        const found = await hands.get(id);
        // What is said to be scheduled may have been canceled, and the kill came before it was said.
        if (what === "canceled") expect(found?.state).toBe("canceled");
        else expect(["scheduled", "canceled"]).toContain(found?.state);
        expect(near.has(id)).toBe(found?.state === "scheduled");
        if (found?.state !== "scheduled") continue;
        const { body } = found.message!;
        expect(body.equals(Buffer.alloc(body.length, id)), "the body is whole").toBe(true);
      }
      const waiting = (await store.stats(hands.shard, hands.message().deliverAtMs)).waitingByTopic.get("orders");
      expect(waiting).toBe(near.size);
      await store.close();
    }
  });

  it("refuses a folder that another process has open, and takes it once that one was killed", async () => {
    await using bench = new SqliteBench();
    const { kill } = await start(bench.folder);
    await expect(bench.open()).rejects.toThrow(
      expect.objectContaining({ code: "store_refusing", message: expect.stringContaining("open in another process") }),
    );
    await kill();
    await (await bench.open()).close();
  });
});
