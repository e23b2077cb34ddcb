import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRocketmqDeliveries } from "../../src/adapters/rocketmq/rocketmq-deliveries.ts";
import { parts, pauseMs } from "../../src/adapters/rocketmq/testing.ts";
import { startConsumer } from "../../src/start-consumer.ts";
import { Bench, blocked, failuresByBody, outlived, retried, type Seen } from "./retrying.ts";
import { createTopic, type Server, startServer, uniqueName } from "./server.ts";

/** The retrying consumer with a real RocketMQ, and a server that waits in a real Redis. */
let server: Server;
let bench: Bench;
const ingest = uniqueName("INGEST");
const places = { INGEST_TOPIC: ingest, INGEST_GROUP: `${ingest}_G` };
const group = () => uniqueName("RETRYING");
const topic = async (type: "NORMAL" | "FIFO" = "NORMAL") => (await createTopic("RETRIED", type)).topic;

beforeAll(async () => {
  server = await startServer(places);
  bench = new Bench({ endpoint: server.endpoint, url: server.url, topic, group });
}, 60_000);
afterAll(async () => {
  await bench[Symbol.asyncDispose]();
  expect(await server.stop(), server.log()).toBe(0);
});

describe("a retrying consumer and a real RocketMQ", () => {
  it("retries what fails, keeps what is dead, and leaves other groups alone", async () => {
    const { seen, others, dead, stats, first, second } = await retried(bench);
    const attempts = (body: string, topic: string) =>
      seen.filter((one) => one.body === body && one.message.topic === topic).map(({ attempt }) => attempt);
    expect(attempts("fail-2", first)).toEqual([1, 2, 3]);
    expect(attempts("fail-1", second)).toEqual([1, 2]);
    expect(attempts("fail-9", first)).toEqual([1, 2, 3, 4]);
    expect(others.sort()).toEqual(["fail-2", "fail-9", "fine", "never"]);
    expect(dead.map(({ body, code }) => [body, code]).sort()).toEqual([
      ["fail-9", "attempts_exhausted"],
      ["never", "permanent"],
    ]);
    expect(stats).toMatchObject({ crashes: 0, notHandedOver: 0, stale: 0, held: 0 });
  }, 120_000);

  it("RT-10 renews a message for as long as its handler runs", async () => {
    const { runs, stats } = await outlived(bench);
    expect(runs).toBe(1);
    expect(stats).toMatchObject({ succeeded: 1, stale: 0, crashes: 0, notAcknowledged: 0 });
  }, 90_000);

  it("RT-11 says of a receipt whose time is over that it is stale, and of a good one that it is done", async () => {
    const place = await createTopic("STALE");
    const options = {
      endpoint: server.endpoint,
      group: place.group,
      topics: [{ topic: place.topic }],
      ...parts,
    } as const;
    const deliveries = createRocketmqDeliveries({ ...options, invisibleMs: 10_000 });
    const [source] = deliveries.sources;
    const untilAborted = new AbortController().signal;
    await deliveries.registered(5_000);
    await source!.receive(1, untilAborted);
    await bench.send(place.topic, "a");
    const next = async () => {
      for (;;) {
        const [message] = await source!.receive(1, untilAborted);
        if (message !== undefined) return { message, receipt: message.receipt };
      }
    };
    const first = await next();
    expect(await source!.changeInvisible(first, 1_000)).toMatchObject({ outcome: "done" });
    const second = await next();
    expect(second.message.deliveryAttempt).toBe(2);
    expect(second.message.brokerMessageId).toBe(first.message.brokerMessageId);
    expect([second.message.bornAtMs, second.message.bornHost]).toEqual([
      first.message.bornAtMs,
      first.message.bornHost,
    ]);
    await pauseMs(10_500);
    expect(await source!.changeInvisible(second, 1_000)).toEqual({ outcome: "stale" });
    expect(await source!.ack([second])).toEqual(["stale"]);
    const third = await next();
    expect(third.message.deliveryAttempt).toBe(3);
    expect(await source!.ack([third])).toEqual(["done"]);
    await deliveries.close();
  }, 60_000);

  it("RT-18 holds a message group back while its head fails", async () => {
    const { seen, stats } = await blocked(bench);
    const ofA = seen.filter(({ body }) => body !== "b1").map(({ body }) => body);
    expect(ofA).toEqual(["fail-2", "fail-2", "fail-2", "a2", "a3"]);
    expect(stats.dead).toBe(0);
  }, 120_000);

  it("RT-07 failures are handed over while the delay server is down, and come back when it is up", async () => {
    const mine = await startServer(places);
    const seen: Seen[] = [];
    const origin = await topic();
    const consumer = await startConsumer(
      {
        endpoint: server.endpoint,
        url: mine.url,
        group: group(),
        topic: origin,
        policy: { backoff: { kind: "fixed", delay: "1s", jitter: "none" } },
      },
      failuresByBody(seen),
    );
    await pauseMs(1_500);
    await mine.stop();
    await server.stop();
    await bench.send(origin, "fail-1");
    await pauseMs(4_000);
    expect(consumer.stats()).toMatchObject({ retried: 1, notHandedOver: 0, succeeded: 0, held: 0 });
    server = await startServer(places);
    const endMs = performance.now() + 30_000;
    while (consumer.stats().succeeded < 1 && performance.now() < endMs) await pauseMs(100);
    expect(seen.map(({ attempt }) => attempt)).toEqual([1, 2]);
    await consumer.stop();
  }, 120_000);

  it("RT-08 a message that kills its process three times is quarantined; the others are done", async () => {
    const origin = await topic();
    const given = JSON.stringify({ endpoint: server.endpoint, url: server.url, group: group(), topic: origin });
    const said: string[] = [];
    let stopping = false;
    const live = async (): Promise<void> => {
      while (!stopping) {
        const child = spawn(process.execPath, [script, given], { stdio: ["ignore", "pipe", "inherit"] });
        kill = () => child.kill("SIGKILL");
        child.stdout.on("data", (part: Buffer) => said.push(...part.toString().trim().split("\n")));
        await new Promise((resolve) => child.once("exit", resolve));
      }
    };
    let kill = () => true;
    const living = live();
    const endMs = performance.now() + 120_000;
    const isDead = async () => {
      const page = (await (await fetch(`${server.url}/v1/dead`)).json()) as { items: { reason?: { code: string } }[] };
      return page.items.some(({ reason }) => reason?.code === "crash_loop");
    };
    while (!said.includes("ready") && performance.now() < endMs) await pauseMs(100);
    await pauseMs(1_500);
    await bench.send(origin, "poison", "healthy");
    while (!(await isDead()) && performance.now() < endMs) await pauseMs(500);
    stopping = true;
    kill();
    await living;
    expect(said.filter((line) => line.startsWith("poison"))).toEqual(["poison 1", "poison 2", "poison 3"]);
    expect(said.some((line) => line.startsWith("healthy"))).toBe(true);
    expect(await isDead()).toBe(true);
  }, 180_000);
});

describe("without the right to create topics", () => {
  it("says which commands create what is missing", async () => {
    const powerless = await startServer({ ...places, ROCKETMQ_ADMIN: "" });
    const mine = group();
    const options = { endpoint: powerless.endpoint, group: mine, topic: await topic() };
    const error = await startConsumer({ ...options, url: powerless.url }, () => {}).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "EscapementConsumerError", code: "group_missing" });
    expect((error as Error).message).toContain(
      `mqadmin updateTopic -n <name server> -c <cluster> -t ESC_RETRY_${mine} `,
    );
    expect((error as Error).message).toContain(
      `mqadmin updateSubGroup -n <name server> -c <cluster> -g ${mine} -r 10000`,
    );
    const alone = await startConsumer({ ...options, url: null }, () => {}).catch((thrown: unknown) => thrown);
    expect(alone).toMatchObject({ code: "group_missing" });
    await powerless.stop();
  }, 60_000);
});

const script = fileURLToPath(new URL("./crashing-consumer.ts", import.meta.url));
