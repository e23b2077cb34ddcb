import { once } from "node:events";
import { connect } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { EscapementClient } from "../../src/sdk/client.ts";
import { consumeAll } from "../rocketmq-consumer.ts";
import { createTopic, type Server, startServer, uniqueName } from "./server.ts";

/** What an operator sees of the process itself: starting, stopping, and several of them on one Redis. */

const running: Server[] = [];
const start = async (env: Record<string, string> = {}): Promise<Server> => {
  const server = await startServer(env);
  running.push(server);
  return server;
};

afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.stop()));
});

describe("stopping", () => {
  it("ends well at the first SIGTERM, and at once at the second", async () => {
    const server = await start();
    // A request whose body never ends keeps an orderly stop waiting.
    const { port } = new URL(server.url);
    const socket = connect(Number(port), "127.0.0.1");
    await once(socket, "connect");
    socket.on("error", () => {});
    socket.write(
      "POST /v1/messages/batch HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ncontent-length: 999\r\n\r\n{",
    );
    await new Promise((resolve) => setTimeout(resolve, 300));
    const exited = once(server.process, "exit");
    server.process.kill("SIGTERM");
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(server.process.exitCode).toBeNull();
    const secondMs = Date.now();
    server.process.kill("SIGTERM");
    const [code] = (await exited) as [number];
    expect(code).toBe(1);
    expect(Date.now() - secondMs).toBeLessThan(1_000);
    socket.destroy();
  });
});

describe("a start that fails", () => {
  it("says why, and leaves no shard behind", async () => {
    const other = await start();
    const env = { REDIS_NAMESPACE: uniqueName("fail").slice(0, 32), LEASE_MS: "30000" };
    await expect(start({ ...env, HTTP_ADDR: new URL(other.url).host })).rejects.toThrow(
      /escapement cannot start: another program listens on .*HTTP_ADDR/,
    );
    const next = await start({ ...env, NODE_NAME: "next" });
    const client = new EscapementClient({ url: next.url });
    const { shards } = await client.stats();
    client.close();
    expect(new Set(shards.map(({ owner }) => owner))).toEqual(new Set(["next"]));
  });
});

describe("two processes on one Redis", () => {
  it("share the shards, tell each other of what is due soon, and one takes over from the other without a duplicate", async () => {
    const namespace = uniqueName("two").slice(0, 32);
    const ingest = uniqueName("TWO_IN");
    const env = { REDIS_NAMESPACE: namespace, LEASE_MS: "3000", INGEST_TOPIC: ingest, INGEST_GROUP: `${ingest}_G` };
    const first = await start({ ...env, NODE_NAME: "first" });
    const second = await start({ ...env, NODE_NAME: "second" });
    const { topic, group } = await createTopic("TWO");
    const seen: string[] = [];
    const lateMs: number[] = [];
    const consuming = await consumeAll({
      endpoint: first.endpoint,
      topic,
      group,
      onMessage: (view) => {
        seen.push(view.body.toString());
        lateMs.push(Date.now() - Number(view.properties.get("ESC_DELIVER_AT")));
      },
    });
    const clients = [first, second].map(({ url }) => new EscapementClient({ url }));
    const owners = async () => new Set((await clients[0]!.stats()).shards.map(({ owner }) => owner));
    const end = Date.now() + 10_000;
    while ((await owners()).size < 2 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await owners()).toEqual(new Set(["first", "second"]));

    // Half of these belong to shards of the other process, which hears of them by a wake.
    const bodies = Array.from({ length: 100 }, (_, i) => `message ${i}`);
    await Promise.all(bodies.map((body, i) => clients[i % 2]!.schedule({ topic, body, delay: 500 + i * 20 })));
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(await second.stop()).toBe(0);
    const until = Date.now() + 10_000;
    while (seen.length < bodies.length && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 50));
    await consuming.stop();
    expect([...seen].sort()).toEqual([...bodies].sort());
    expect(Math.min(...lateMs)).toBeGreaterThanOrEqual(0);
    expect(await owners()).toEqual(new Set(["first"]));
    for (const client of clients) client.close();
  });
});
