import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { Files } from "./files.port.ts";
import { memoryFiles } from "./memory-files.ts";
import { nodeFiles } from "./node-files.ts";

const folder = mkdtempSync(join(tmpdir(), "escapement-files-"));
afterAll(() => rmSync(folder, { recursive: true }));

const kinds: readonly (readonly [string, () => Files])[] = [
  ["on disk", () => nodeFiles(mkdtempSync(join(folder, "one-")))],
  ["in memory", () => memoryFiles()],
];

describe.each(kinds)("files %s", (_, open) => {
  it("hold what was written, wherever it was written", async () => {
    const files = open();
    await files.makeFolder("a/b");
    const file = files.open("a/b/c", "create")!;
    const large = Buffer.alloc(600_000, "large");
    await file.write(large, 100_000);
    await file.write(Buffer.from("small"), 3);
    expect(file.sizeBytes).toBe(700_000);
    const all = Buffer.alloc(800_000, 1);
    expect(file.read(all, 0)).toBe(700_000);
    expect(all.toString("latin1", 0, 8)).toBe("\0\0\0small");
    expect(all.subarray(8, 100_000).every((byte) => byte === 0)).toBe(true);
    expect(all.subarray(100_000, 700_000).equals(large)).toBe(true);
    expect(file.read(Buffer.alloc(10), 700_000)).toBe(0);
    await file.sync();
    file.close();
    expect(files.open("a/b/c", "leave")!.sizeBytes).toBe(700_000);
  });

  it("forget what is cut off", async () => {
    const files = open();
    const file = files.open("c", "create")!;
    await file.write(Buffer.alloc(300_000, 7), 0);
    await file.truncate(10);
    expect(file.sizeBytes).toBe(10);
    await file.write(Buffer.from("x"), 20);
    const all = Buffer.alloc(21);
    expect(file.read(all, 0)).toBe(21);
    expect([...all.subarray(8)]).toEqual([7, 7, ...Array(10).fill(0), 120]);
  });

  it("have names that can be listed, changed and removed", async () => {
    const files = open();
    await files.makeFolder("q/1");
    expect(files.open("q/1/none", "leave")).toBeUndefined();
    expect(files.list("nothing")).toEqual([]);
    for (const name of ["q/b", "q/a", "q/1/x"]) await files.open(name, "create")!.write(Buffer.from(name), 0);
    expect(files.list("q")).toEqual(["1", "a", "b"]);
    await files.rename("q/a", "q/b");
    await files.syncFolder("q");
    const read = Buffer.alloc(3);
    files.open("q/b", "leave")!.read(read, 0);
    expect(read.toString()).toBe("q/a");
    await files.remove("q/1");
    await files.remove("q/not there");
    expect(files.list("q")).toEqual(["b"]);
  });
});
