import { machineClock, systemTimers } from "../../../adapters/system/system-time.ts";
import { epochMs } from "../../../message/time.ts";
import { silentLog } from "../../../runtime/log.ts";
import { nodeFiles } from "../../files/node-files.ts";
import { CommitLogStore } from "../commit-log-store.ts";
import type { Flush } from "../segmented-log.ts";
import { aMessage } from "../testing.ts";

/**
 * A program to be killed: sends without end into the folder that it is given, several queues at a time, and prints a
 * line `<queue> <offset> <id>` for each message that was acknowledged. A body repeats its message's id.
 */
const [folder, flush] = process.argv.slice(2);
const store = await CommitLogStore.open({
  files: nodeFiles(folder!),
  flush: flush as Flush,
  segmentBytes: 1024 * 1024,
  entriesPerFile: 500,
  retention: { keepMs: 1e12, keepBytes: 1e12 },
  clock: { nowMs: () => epochMs(Math.floor(machineClock.wallMs())), monotonicMs: machineClock.monotonicMs },
  timers: systemTimers,
  log: silentLog,
});

const work = async (queueId: number, batch: number, bodyBytes: number): Promise<never> => {
  for (let i = 0; ; i += batch) {
    const ids = Array.from({ length: batch }, (_, j) => `${process.pid}-${queueId}-${i + j}`);
    const messages = ids.map((messageId) => aMessage({ messageId, body: Buffer.alloc(bodyBytes, messageId) }));
    const first = await store.append("orders", queueId, messages);
    process.stdout.write(ids.map((id, j) => `${queueId} ${first + j} ${id}\n`).join(""));
  }
};
await Promise.all([work(0, 1, 20), work(1, 7, 300), work(2, 1, 30_000), work(3, 20, 100)]);
