import { randomBytes } from "node:crypto";
import { it } from "vitest";
import { Embedded } from "./embedded.ts";
import { keepsItsPromises } from "./retry-outage-promises.ts";

it("RT-12 an outage with the server that a newcomer starts, and two consumer processes", async () => {
  await using server = await new Embedded().start();
  const { endpoint, url } = server;
  const unique = (name: string) => `${name}_${randomBytes(4).toString("hex")}`;
  await keepsItsPromises({ endpoint, url, topic: async () => unique("outage"), group: () => unique("callers") });
}, 150_000);
