import { describe, expect, it } from "vitest";
import { code } from "../../protocol/messaging-service.ts";
import { silentLog } from "../../runtime/log.ts";
import type { Files, OpenFile } from "../files/files.port.ts";
import { memoryFiles } from "../files/memory-files.ts";
import { frameHeaderBytes } from "./frame.ts";
import { SegmentedLog, type SegmentedLogOptions } from "./segmented-log.ts";
import { noTimers, recordingLog, rewrite } from "./testing.ts";

const segment = "log/00000000000000000000.log";
const record = (text: string): Buffer => Buffer.from(text);

const openLog = (options: Partial<SegmentedLogOptions> = {}): Promise<SegmentedLog> =>
  SegmentedLog.open({
    files: memoryFiles(),
    folder: "log",
    flush: "sync",
    segmentBytes: 1_000,
    timers: noTimers,
    log: silentLog,
    ...options,
  });

const texts = (log: SegmentedLog): string[] => [...log.scan(0)].map((found) => found.record.toString());

/** A file layer whose files do one thing differently. */
const withFiles = (files: Files, change: (file: OpenFile) => Partial<OpenFile>): Files => ({
  ...files,
  open: (path, missing) => {
    const file = files.open(path, missing);
    if (file === undefined) return undefined;
    const bound: OpenFile = {
      get sizeBytes() {
        return file.sizeBytes;
      },
      write: (bytes, position) => file.write(bytes, position),
      read: (target, position) => file.read(target, position),
      truncate: (sizeBytes) => file.truncate(sizeBytes),
      sync: () => file.sync(),
      close: () => file.close(),
    };
    return Object.assign(bound, change(file));
  },
});

const failure = (code: string): Error => Object.assign(new Error(code), { code });

describe("a segmented log", () => {
  it("refuses what its bounds have no room for, and takes it when the disk has caught up", async () => {
    let carryOn = () => {};
    const disk = new Promise<void>((resolve) => {
      carryOn = resolve;
    });
    const files = withFiles(memoryFiles(), (file) => ({
      write: async (bytes, position) => {
        await disk;
        await file.write(bytes, position);
      },
    }));
    const log = await openLog({ files, waitingBytesMax: 300 });
    const first = log.append([record("a".repeat(200))]);
    expect(() => log.append([record("b".repeat(200))])).toThrow(
      expect.objectContaining({ status: code.tooManyRequests }),
    );
    carryOn();
    await first.durable;
    await log.append([record("c".repeat(200))]).durable;
    expect(texts(log).map(([letter]) => letter)).toEqual(["a", "c"]);
  });

  it("gives back records by position and in order, over segments and starts", async () => {
    const files = memoryFiles();
    let log = await openLog({ files });
    const written: { position: number; text: string }[] = [];
    for (let i = 0; i < 60; i++) {
      const text = `record ${i} ${"x".repeat(i * 7)}`;
      const { positions, durable } = log.append([record(text)]);
      await durable;
      written.push({ position: positions[0]!, text });
      if (i % 20 === 19) {
        await log.close();
        log = await openLog({ files });
      }
    }
    expect(files.list("log").length).toBeGreaterThan(5);
    expect([...log.scan(0)].map((found) => ({ position: found.position, text: found.record.toString() }))).toEqual(
      written,
    );
    for (const { position, text } of written) expect(log.read(position)?.toString()).toBe(text);
    expect([...log.scan(written[30]!.position)]).toHaveLength(30);
    expect(log.read(written[3]!.position + 1)).toBeUndefined();
    expect(log.read(log.endPosition)).toBeUndefined();
  });

  it("writes what comes together in one write and one sync, and what comes meanwhile in the next", async () => {
    const calls: string[] = [];
    const files = withFiles(memoryFiles(), (file) => ({
      write: async (bytes, position) => {
        calls.push("write");
        await file.write(bytes, position);
      },
      sync: async () => void calls.push("sync"),
    }));
    const log = await openLog({ files });
    const first = Array.from({ length: 20 }, (_, i) => log.append([record(`first ${i}`)]).durable);
    // The writer has begun; these come while it writes.
    await Promise.resolve();
    await Promise.resolve();
    const second = Array.from({ length: 20 }, (_, i) => log.append([record(`second ${i}`)]).durable);
    await Promise.all([...first, ...second]);
    expect(calls).toEqual(["write", "sync", "write", "sync"]);
    expect(texts(log)).toHaveLength(40);
  });

  it("keeps the records of one append in one segment", async () => {
    const log = await openLog();
    await log.append([Buffer.alloc(700)]).durable;
    const { positions, durable } = log.append([Buffer.alloc(200), Buffer.alloc(200)]);
    await durable;
    expect(positions).toEqual([1_000, 1_000 + frameHeaderBytes + 200]);
    expect(() => log.append([Buffer.alloc(989)])).toThrow(/send fewer/);
  });

  it("cuts off a torn write at any byte, and goes on from there", async () => {
    const files = memoryFiles();
    const log = await openLog({ files });
    await log.append([record("kept")]).durable;
    const kept = log.endPosition;
    await log.append([record("torn by the power failure")]).durable;
    const whole = Buffer.alloc(log.endPosition);
    files.open(segment, "leave")!.read(whole, 0);
    for (let length = kept; length < whole.length; length++) {
      await rewrite(files, segment, () => whole.subarray(0, length));
      const again = await openLog({ files });
      expect(texts(again)).toEqual(["kept"]);
      await again.append([record("new")]).durable;
      expect(texts(again)).toEqual(["kept", "new"]);
    }
  });

  it("loses to a flipped bit the record that it hit and no other", async () => {
    const files = memoryFiles();
    const log = await openLog({ files });
    await log.append(["one", "two", "three", "four"].map(record)).durable;
    await log.close();
    const whole = Buffer.alloc(log.endPosition);
    files.open(segment, "leave")!.read(whole, 0);
    for (let at = 0; at < whole.length; at++) {
      const damaged = Buffer.from(whole);
      damaged[at]! ^= 1 << (at % 8);
      await rewrite(files, segment, () => damaged);
      const { log: recording, lines } = recordingLog();
      const found = texts(await openLog({ files, log: recording }));
      expect(found).toHaveLength(3);
      expect(["one", "two", "three", "four"].filter((text) => found.includes(text))).toEqual(found);
      expect(lines.map(({ text }) => text)).toEqual([
        found.at(-1) === "four" ? "part of the log cannot be read" : "cut off an unfinished write",
      ]);
    }
  });

  it("takes no bytes of another place for a record, not even its own", async () => {
    const files = memoryFiles();
    const log = await openLog({ files });
    await log.append([record("first")]).durable;
    const frame = Buffer.alloc(log.endPosition);
    files.open(segment, "leave")!.read(frame, 0);
    await log.append([Buffer.concat([frame, frame])]).durable;
    const last = log.append([record("last")]);
    await last.durable;
    await log.close();
    await rewrite(files, segment, (bytes) => {
      bytes[frame.length]! ^= 1; // the header of the record that holds the copies
      return bytes;
    });
    expect(texts(await openLog({ files }))).toEqual(["first", "last"]);
  });

  it("refuses what does not fit on the disk, with all that waits behind it, and takes it when there is room", async () => {
    let isFull = false;
    const files = withFiles(memoryFiles(), (file) => ({
      write: async (bytes, position) => {
        await file.write(isFull ? bytes.subarray(0, bytes.length / 2) : bytes, position);
        if (isFull) throw failure("ENOSPC");
      },
    }));
    let refusedOnce = 0;
    const log = await openLog({ files, onRefused: () => refusedOnce++ });
    await log.append([record("before")]).durable;
    isFull = true;
    const results = await Promise.allSettled([
      log.append([record("no room for this")]).durable,
      log.append([record("nor for this")]).durable,
    ]);
    expect(results.map((result) => result.status === "rejected" && String(result.reason))).toEqual([
      expect.stringMatching(/disk is full: nothing was stored/),
      expect.stringMatching(/disk is full: nothing was stored/),
    ]);
    expect(refusedOnce).toBe(1);
    isFull = false;
    await log.append([record("after")]).durable;
    expect(texts(log)).toEqual(["before", "after"]);
    expect(texts(await openLog({ files }))).toEqual(["before", "after"]);
  });

  it("takes nothing any more after a sync that failed, and says so", async () => {
    let fails = false;
    const files = withFiles(memoryFiles(), () => ({
      sync: async () => {
        if (fails) throw failure("EIO");
      },
    }));
    const { log: recording, lines } = recordingLog();
    const log = await openLog({ files, log: recording });
    fails = true;
    await expect(log.append([record("unknown")]).durable).rejects.toThrow(/unknown; check the disk/);
    fails = false;
    expect(() => log.append([record("refused")])).toThrow(/start the broker again/);
    expect(lines.map(({ level }) => level)).toContain("fatal");
  });

  it("in async mode acknowledges when it is written, and syncs after half a second", async () => {
    let syncs = 0;
    const planned: { delayMs: number; run: () => void }[] = [];
    const files = withFiles(memoryFiles(), () => ({ sync: async () => void syncs++ }));
    const timers = {
      after: (delayMs: number, run: () => void) => {
        planned.push({ delayMs, run });
        return { cancel: () => {} };
      },
    };
    const log = await openLog({ files, flush: "async", timers });
    await log.append([record("one")]).durable;
    await log.append([record("two")]).durable;
    expect({ syncs, planned: planned.map(({ delayMs }) => delayMs) }).toEqual({ syncs: 0, planned: [500] });
    planned[0]!.run();
    await Promise.resolve().then(() => {});
    await log.sync();
    expect(syncs).toBe(1);
  });

  it("removes whole segments from the front, never the last", async () => {
    const files = memoryFiles();
    const log = await openLog({ files });
    for (let i = 0; i < 6; i++) await log.append([Buffer.alloc(600, i + 1)]).durable;
    await log.dropBefore(2_999);
    expect(log.firstPosition).toBe(2_000);
    expect(log.read(1_000)).toBeUndefined();
    await log.dropBefore(1_000_000);
    expect(files.list("log")).toEqual(["00000000000000005000.log"]);
    expect((await openLog({ files })).firstPosition).toBe(5_000);
  });

  it("refuses a folder that was written with segments of another size", async () => {
    const files = memoryFiles();
    const log = await openLog({ files });
    for (let i = 0; i < 3; i++) await log.append([Buffer.alloc(600, 1)]).durable;
    await expect(openLog({ files, segmentBytes: 3_000 })).rejects.toThrow(/segments of another size/);
  });
});
