import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startRedisCluster } from "../../../scripts/services.mjs";
import { services } from "../../../test/services.ts";
import { documentStoreContract } from "../../documents/document-store.contract.ts";
import { RedisDocumentStore } from "./redis-document-store.ts";
import { ownNamespace, ownRunDir } from "./testing.ts";

const subjectAt = async (address: string) => {
  const options = { address, namespace: ownNamespace() };
  const opened: RedisDocumentStore[] = [];
  const open = async () => {
    const store = await RedisDocumentStore.open(options);
    opened.push(store);
    return store;
  };
  return {
    store: await open(),
    other: await open(),
    reopen: open,
    close: async () => void (await Promise.all(opened.map((store) => store.close()))),
  };
};

describe("on one Redis", async () => {
  const { redis } = await services();
  documentStoreContract("Redis", () => subjectAt(redis.url));

  it("says store_unavailable after it was closed", async () => {
    const store = await RedisDocumentStore.open({ address: redis.url, namespace: ownNamespace() });
    await store.close();
    await expect(store.read("policy", "a")).rejects.toMatchObject({ code: "store_unavailable" });
  });
});

describe("on a Cluster of three", () => {
  const { runDir, stop } = ownRunDir();
  let address = "";
  beforeAll(async () => {
    const { urls } = await startRedisCluster({ runDir });
    address = `redis+cluster://${urls.map((url) => new URL(url).host).join(",")}`;
  });
  afterAll(stop);

  documentStoreContract("Redis Cluster", () => subjectAt(address));
});
