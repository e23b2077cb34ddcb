import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type MessageView, Producer } from "rocketmq-client-nodejs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { mavenJars } from "../../scripts/services/maven-jars.mjs";
import { EscapementClient } from "../../src/sdk/client.ts";
import { type Consuming, consumeAll } from "../rocketmq-consumer.ts";
import { createTopic, type Server, startServer, uniqueName } from "./server.ts";

/**
 * The main job on real input: messages handed over in every way, waiting in a real Redis, received from a real
 * RocketMQ by official clients that know nothing of us.
 */

let server: Server;
let client: EscapementClient;
const ingestTopic = uniqueName("WAY_IN");

beforeAll(async () => {
  server = await startServer({ INGEST_TOPIC: ingestTopic, INGEST_GROUP: `${ingestTopic}_G` });
  client = new EscapementClient({ url: server.url });
});

afterAll(async () => {
  client.close();
  expect(await server.stop(), server.log()).toBe(0);
});

type Received = { readonly view: MessageView; readonly atMs: number };

const collecting = async (topic: string, group: string): Promise<{ received: Received[]; consuming: Consuming }> => {
  const received: Received[] = [];
  const onMessage = (view: MessageView) => received.push({ view, atMs: Date.now() });
  return { received, consuming: await consumeAll({ endpoint: server.endpoint, topic, group, onMessage, pollers: 1 }) };
};

const until = async (condition: () => boolean, withinMs: number): Promise<void> => {
  const end = Date.now() + withinMs;
  while (!condition() && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
};

const everyByte = Buffer.from(Array.from({ length: 256 }, (_, i) => i));

describe("a message handed over by HTTP", () => {
  it("arrives at its time at an ordinary consumer, with body bytes, tag, keys and properties intact", async () => {
    const { topic, group } = await createTopic("HTTP");
    const { received, consuming } = await collecting(topic, group);
    const deliverAt = Date.now() + 1_500;
    const properties = { colour: "grün", "with space": "and = signs" };
    const { id } = await client.schedule({
      topic,
      body: everyByte,
      tag: "tagged",
      keys: ["a", "b"],
      properties,
      deliverAt,
    });
    await until(() => received.length > 0, 8_000);
    await consuming.stop();
    expect(received).toHaveLength(1);
    const { view, atMs } = received[0]!;
    expect(atMs).toBeGreaterThanOrEqual(deliverAt);
    expect(atMs).toBeLessThan(deliverAt + 2_000);
    expect(view.body.equals(everyByte)).toBe(true);
    expect(view.tag).toBe("tagged");
    expect(view.keys).toEqual(["a", "b"]);
    expect(Object.fromEntries(view.properties)).toMatchObject({
      colour: "grün",
      "with space": "and = signs",
      ESC_ID: id,
      ESC_ATTEMPT: "1",
      ESC_DELIVER_AT: String(deliverAt),
    });
    expect(await client.get(id)).toMatchObject({ state: "delivered", attempt: 1 });
  });

  it("cancel means cancel, and a rescheduled message comes at its new time with its new body only", async () => {
    const { topic, group } = await createTopic("CHANGE");
    const { received, consuming } = await collecting(topic, group);
    const soon = Date.now() + 1_500;
    await client.schedule({ topic, body: "never", key: "canceled", deliverAt: soon });
    await client.schedule({ topic, body: "old", key: "moved", deliverAt: soon });
    expect(await client.cancel({ key: "canceled" })).toMatchObject({ state: "canceled" });
    const later = soon + 1_500;
    await client.reschedule({ key: "moved" }, { deliverAt: later, body: "new" });
    await until(() => received.length > 0, 8_000);
    await new Promise((resolve) => setTimeout(resolve, 500));
    await consuming.stop();
    expect(received.map(({ view }) => view.body.toString())).toEqual(["new"]);
    expect(received[0]!.atMs).toBeGreaterThanOrEqual(later);
  });

  it("keeps a message group in order", async () => {
    const { topic, group } = await createTopic("ORDER", "FIFO");
    const { received, consuming } = await collecting(topic, group);
    const dueMs = Date.now() + 1_000;
    // Accepted out of order and at one instant: order is by deliverAt, then by acceptance.
    for (const step of [3, 1, 2, 4]) {
      await client.schedule({ topic, messageGroup: "g", body: `step ${step}`, deliverAt: dueMs + step });
    }
    await client.schedule({ topic, messageGroup: "g", body: "step 5", deliverAt: dueMs + 4 });
    await until(() => received.length === 5, 10_000);
    await consuming.stop();
    const bodies = received.map(({ view }) => view.body.toString());
    expect(bodies).toEqual(["step 1", "step 2", "step 3", "step 4", "step 5"]);
    expect(received.map(({ view }) => view.messageGroup)).toEqual(Array(5).fill("g"));
  });
});

describe("a message handed over by RocketMQ topic", () => {
  let producer: Producer;
  beforeAll(async () => {
    const quiet = { info() {}, warn() {}, error() {} };
    producer = new Producer({ endpoints: server.endpoint, namespace: "", topic: ingestTopic, logger: quiet });
    await producer.startup();
  });
  afterAll(() => producer.shutdown());

  it("goes on to the topic it names, at its time, as it was sent", async () => {
    const { topic, group } = await createTopic("INGESTED");
    const { received, consuming } = await collecting(topic, group);
    const deliverAt = Date.now() + 2_000;
    const properties = new Map([
      ["ESC_TOPIC", topic],
      ["ESC_DELIVER_AT", String(deliverAt)],
      ["colour", "blue"],
    ]);
    await producer.send({ topic: ingestTopic, body: everyByte, tag: "t", keys: ["k"], properties });
    await until(() => received.length > 0, 10_000);
    await consuming.stop();
    const { view, atMs } = received[0]!;
    expect(atMs).toBeGreaterThanOrEqual(deliverAt);
    expect(view.body.equals(everyByte)).toBe(true);
    expect(view).toMatchObject({ tag: "t", keys: ["k"] });
    expect(view.properties.get("colour")).toBe("blue");
    expect(view.properties.has("ESC_TOPIC")).toBe(false);
  });

  it("is kept among the dead with its reason and its properties when it cannot be admitted", async () => {
    const properties = new Map([
      ["ESC_TOPIC", "no such topic!"],
      ["ESC_DELAY", "1s"],
      ["order", "4711"],
    ]);
    await producer.send({ topic: ingestTopic, body: Buffer.from("lost?"), properties });
    const dead = async () =>
      (await (await fetch(`${server.url}/v1/dead`)).json()) as { items: { properties: object }[] };
    let items: Awaited<ReturnType<typeof dead>>["items"] = [];
    const end = Date.now() + 8_000;
    while (items.length === 0 && Date.now() < end) ({ items } = await dead());
    expect(items).toHaveLength(1);
    expect(items[0]).toMatchObject({
      state: "dead",
      reason: { code: "invalid_topic" },
      properties: { order: "4711", ESC_TOPIC: "no such topic!" },
    });
  });
});

describe("clients in other languages", () => {
  it("the official Java client receives what was scheduled, intact", async () => {
    const jars = await mavenJars({
      name: "rocketmq-client-java-5.2.0",
      artifacts: ["org.apache.rocketmq:rocketmq-client-java:5.2.0"],
      say: () => {},
    });
    const { topic, group } = await createTopic("JAVA");
    const home = mkdtempSync(join(tmpdir(), "java-client-"));
    const source = join(import.meta.dirname, "ConsumeOne.java");
    const args = [`-Duser.home=${home}`, "-cp", join(jars, "*"), source, server.endpoint, topic, group, "1"];
    const java = spawn("java", args, { stdio: ["ignore", "pipe", "ignore"] });
    const lines = createInterface({ input: java.stdout });
    const printed: string[] = [];
    lines.on("line", (line) => printed.push(line));
    try {
      await until(() => printed.includes("ready"), 30_000);
      await client.schedule({ topic, body: everyByte, tag: "tag", keys: ["k1"], properties: { p: "v" }, delay: 1_000 });
      await until(() => printed.length > 1, 20_000);
    } finally {
      if (java.exitCode === null) java.kill("SIGKILL");
      await once(java, "exit").catch(() => {});
    }
    const [, body, tag, keys, , properties] = printed.find((line) => line.startsWith("message"))!.split("\t");
    expect(Buffer.from(body!, "base64").equals(everyByte)).toBe(true);
    expect([tag, keys]).toEqual(["tag", "k1"]);
    expect(properties).toContain("p=v");
  }, 90_000);
});

describe("what the README shows", () => {
  it("works as printed: the curl, and the cancel by key", async () => {
    const readme = readFileSync(join(import.meta.dirname, "../../README.md"), "utf8");
    const commands = [...readme.matchAll(/curl (?:\\\n|[^\n`])*/g)].map(([command]) => command.trim());
    expect(commands).toHaveLength(2);
    const { topic, group } = await createTopic("README");
    const { received, consuming } = await collecting(topic, group);
    const here = (command: string) =>
      command.replace("http://127.0.0.1:7361", server.url).replace('"topic":"demo"', `"topic":"${topic}"`);
    const sh = (command: string) =>
      JSON.parse(execFileSync("sh", ["-c", command.replace("curl", "curl -s")], { encoding: "utf8" })) as object;
    const startedMs = Date.now();
    expect(sh(here(commands[0]!))).toMatchObject({ state: "scheduled" });
    await until(() => received.length > 0, 10_000);
    await consuming.stop();
    expect(received.map(({ view }) => view.body.toString())).toEqual(["hello"]);
    expect(received[0]!.atMs - startedMs).toBeGreaterThanOrEqual(5_000);
    expect(sh(here(commands[1]!))).toMatchObject({ code: "too_late" });
    const other = here(commands[0]!).replace("hello-1", "hello-2");
    expect(sh(other)).toMatchObject({ state: "scheduled" });
    expect(sh(here(commands[1]!).replace("hello-1", "hello-2"))).toMatchObject({ state: "canceled" });
  });
});
