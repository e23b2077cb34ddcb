import { randomBytes } from "node:crypto";
import { createConnection } from "mysql2/promise";
import { afterAll, describe, expect, it } from "vitest";
import { openOwnDatabase } from "../../../test/mysql-database.ts";
import { services } from "../../../test/services.ts";
import { documentStoreContract } from "../../documents/document-store.contract.ts";
import { MysqlDocumentStore } from "./mysql-document-store.ts";

const { mysql } = await services();
// One in which a and A are the same name unless somebody says otherwise.
const database = await openOwnDatabase(mysql.url, "CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci");
const { url } = database;
afterAll(() => database[Symbol.asyncDispose]());
const ownPrefix = (): string => `t${randomBytes(5).toString("hex")}_`;

documentStoreContract("MySQL", async () => {
  const tablePrefix = ownPrefix();
  const opened: MysqlDocumentStore[] = [];
  const open = async () => {
    const store = await MysqlDocumentStore.open({ url, tablePrefix });
    opened.push(store);
    return store;
  };
  return {
    store: await open(),
    other: await open(),
    reopen: open,
    close: async () => void (await Promise.all(opened.map((store) => store.close()))),
  };
});

describe("documents in MySQL", () => {
  it("many processes that start at once make the tables once", async () => {
    const tablePrefix = ownPrefix();
    const stores = await Promise.all(Array.from({ length: 8 }, () => MysqlDocumentStore.open({ url, tablePrefix })));
    expect(await stores[0]!.write("k", "n", "b", 0)).toMatchObject({ outcome: "written" });
    expect(await stores[7]!.read("k", "n")).toMatchObject({ body: "b" });
    await Promise.all(stores.map((store) => store.close()));
  });

  it("refuses tables of a newer program", async () => {
    const tablePrefix = ownPrefix();
    await (await MysqlDocumentStore.open({ url, tablePrefix })).close();
    const connection = await createConnection(url);
    await connection.query(`UPDATE ${tablePrefix}version SET version = 99`);
    await connection.end();
    await expect(MysqlDocumentStore.open({ url, tablePrefix })).rejects.toMatchObject({
      code: "store_refusing",
      message: expect.stringContaining("newer program"),
    });
  });

  it("never says the password, whatever is wrong with the address", async () => {
    const right = new URL(url);
    const wrong = [
      `mysql://nobody:s3cret-word@${right.host}/nowhere`,
      `mysql://${right.username}:s3cret-word@127.0.0.1:1/x`,
      `mysql://nobody:s3cret-word@${right.host}`,
    ];
    for (const address of wrong) {
      const error = await MysqlDocumentStore.open({ url: address }).then(
        () => undefined,
        (thrown: unknown) => thrown as Error,
      );
      expect(error, address).toMatchObject({ code: expect.stringMatching(/^store_(refusing|unavailable)$/) });
      expect(`${error?.message} ${error?.stack} ${JSON.stringify(error)} ${String(error?.cause)}`).not.toContain(
        "s3cret",
      );
    }
  });

  it("says store_unavailable after it was closed", async () => {
    const store = await MysqlDocumentStore.open({ url, tablePrefix: ownPrefix() });
    await store.close();
    await expect(store.read("k", "n")).rejects.toMatchObject({ code: "store_unavailable" });
  });
});
