import { expect, it } from "vitest";
import { keepsItsPromises } from "./retry-outage-promises.ts";
import { createTopic, startServer, uniqueName } from "./server.ts";

it("RT-12 an outage on real parts: RocketMQ, Redis, a server and two consumer processes", async () => {
  const server = await startServer({ LOG_LEVEL: "warn" });
  const { endpoint, url } = server;
  try {
    await keepsItsPromises({
      endpoint,
      url,
      topic: async (type = "NORMAL") => (await createTopic("OUTAGE", type)).topic,
      group: () => uniqueName("CALLERS"),
    });
  } finally {
    expect(await server.stop(), server.log()).toBe(0);
  }
}, 150_000);
