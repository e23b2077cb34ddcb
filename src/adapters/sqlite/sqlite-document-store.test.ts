import { describe, expect, it } from "vitest";
import { documentStoreContract } from "../../documents/document-store.contract.ts";
import { SqliteBench } from "./testing/sqlite-bench.ts";

documentStoreContract("sqlite", async () => {
  const bench = new SqliteBench();
  const file = await bench.open();
  return {
    store: file.documents,
    reopen: async () => (await bench.reopen(file)).documents,
    close: async () => bench[Symbol.asyncDispose](),
  };
});

describe("documents in the file of the delay store", () => {
  it("a file of the version before gets their table and keeps what it holds", async () => {
    const { DatabaseSync } = await import("node:sqlite");
    await using bench = new SqliteBench();
    const file = await bench.open();
    await file.topicMemory.remember("orders");
    await file.close();
    const db = new DatabaseSync(`${bench.folder}/escapement.db`);
    db.exec("DROP TABLE document; PRAGMA user_version = 1");
    db.close();
    const again = await bench.open();
    expect(await again.topicMemory.known()).toEqual(["orders"]);
    expect(await again.documents.write("policy", "orders", "{}", 0)).toMatchObject({ outcome: "written" });
  });

  it("says store_unavailable after the file was closed", async () => {
    await using bench = new SqliteBench();
    const file = await bench.open();
    await file.close();
    await expect(file.documents.read("policy", "a")).rejects.toMatchObject({ code: "store_unavailable" });
  });
});
