// A producer that cannot start holds nothing.

import { expect, test } from "vitest";
import { createTxProducer, fromMysql2 } from "../../src/tx-producer.ts";
import { openLab } from "./lab.ts";

test("half mode whose table is missing: refused, and every connection is back in the pool", async () => {
  await using lab = await openLab();
  await lab.run("DROP TABLE escapement_half");
  const rocketmq = { endpoint: "127.0.0.1:1" };
  const opening = createTxProducer({ rocketmq, db: fromMysql2(lab.pool), half: { topics: ["t"] } });
  await expect(opening).rejects.toThrow("escapement_half");
  const { _allConnections: all, _freeConnections: free } = (
    lab.pool as unknown as { pool: Record<"_allConnections" | "_freeConnections", { length: number }> }
  ).pool;
  expect(all.length - free.length).toBe(0);
});
