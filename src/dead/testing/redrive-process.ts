import { appendFileSync } from "node:fs";
import { RedisDelayStore } from "../../adapters/redis/redis-delay-store.ts";
import { RedisDocumentStore } from "../../adapters/redis/redis-document-store.ts";
import { epochMs } from "../../message/time.ts";
import { Service } from "../../service.ts";
import { plainParts } from "../../testing/plain-parts.ts";

/**
 * A process of a service on a real Redis whose broker is a file: a line with the id of everything that it sends. Ends
 * when its parent says so.
 */
const [address, namespace, file, node] = process.argv.slice(2) as [string, string, string, string];
const clock = { nowMs: () => epochMs(Date.now()), monotonicMs: () => performance.now() };
const service = new Service({
  store: await RedisDelayStore.open({ address, namespace, clock, shardCount: 8, durability: "everysec" }),
  documents: await RedisDocumentStore.open({ address, namespace }),
  sink: {
    send: async (_topic, messages) => {
      appendFileSync(file, messages.map(({ id }) => `${id} ${node}\n`).join(""));
      return messages.map(() => ({ ok: true, brokerMessageId: "" }) as const);
    },
    close: async () => {},
  },
  ...plainParts(node),
});
await service.start();
process.once("message", () => {
  void service.stop().then(() => process.exit(0));
});
process.send!("started");
