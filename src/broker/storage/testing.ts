import { epochMs } from "../../message/time.ts";
import { type Log, silentLog } from "../../runtime/log.ts";
import type { Timers } from "../../runtime/timers.ts";
import type { BrokerMessage } from "../broker-message.ts";
import { memoryFiles } from "../files/memory-files.ts";
import { CommitLogStore, type CommitLogStoreOptions } from "./commit-log-store.ts";

/** For tests of what lies on the storage: a store in memory, whose time stands until it is told otherwise. */

export const noTimers: Timers = { after: () => ({ cancel: () => {} }) };

export const aMessage = (fields: Partial<BrokerMessage> = {}): BrokerMessage => ({
  topic: "orders",
  messageId: "01",
  type: "NORMAL",
  tag: undefined,
  messageGroup: undefined,
  deliverAtMs: undefined,
  userProperties: Buffer.alloc(0),
  systemProperties: Buffer.alloc(0),
  body: Buffer.from("body"),
  ...fields,
});

export type LoggedLine = { readonly level: string; readonly text: string; readonly fields: Record<string, unknown> };

export const recordingLog = (): { log: Log; lines: LoggedLine[] } => {
  const lines: LoggedLine[] = [];
  const at =
    (level: string) =>
    (fields: Record<string, unknown>, text: string): void =>
      void lines.push({ level, text, fields });
  const log = { ...silentLog, warn: at("warn"), error: at("error"), fatal: at("fatal") } as Log;
  return { log, lines };
};

export const openStore = (options: Partial<CommitLogStoreOptions> = {}): Promise<CommitLogStore> =>
  CommitLogStore.open({
    files: memoryFiles(),
    flush: "sync",
    segmentBytes: 4_096,
    entriesPerFile: 8,
    retention: { keepMs: 1e12, keepBytes: 1e12 },
    clock: { nowMs: () => epochMs(1_000), monotonicMs: () => 0 },
    timers: noTimers,
    log: silentLog,
    ...options,
  });

/** The whole of a file, and another in its place: how a test damages one. */
export const rewrite = async (
  files: CommitLogStoreOptions["files"],
  path: string,
  change: (bytes: Buffer) => Buffer,
): Promise<void> => {
  const file = files.open(path, "leave")!;
  const bytes = Buffer.alloc(file.sizeBytes);
  file.read(bytes, 0);
  const changed = change(bytes);
  await file.truncate(0);
  await file.write(changed, 0);
  file.close();
};
