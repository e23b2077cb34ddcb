import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startConsumer } from "../../src/start-consumer.ts";
import { Embedded } from "./embedded.ts";
import { Bench, blocked, outlived, retried } from "./retrying.ts";

/** The retrying consumer with the server that a newcomer starts: one process, its own store and broker. */
let server: Embedded;
let bench: Bench;
const unique = (name: string) => `${name}_${randomBytes(4).toString("hex")}`;

beforeAll(async () => {
  server = await new Embedded().start();
  const { endpoint, url } = server;
  bench = new Bench({ endpoint, url, topic: async () => unique("topic"), group: () => unique("group") });
}, 40_000);
afterAll(async () => {
  await bench[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

describe("a retrying consumer and the embedded broker", () => {
  it("retries what fails, keeps what is dead, and leaves other groups alone", async () => {
    const { seen, others, dead, stats, first, second } = await retried(bench);
    const attempts = (body: string, topic: string) =>
      seen.filter((one) => one.body === body && one.message.topic === topic).map(({ attempt }) => attempt);
    expect(attempts("fail-2", first)).toEqual([1, 2, 3]);
    expect(attempts("fail-1", second)).toEqual([1, 2]);
    expect(attempts("fail-9", first)).toEqual([1, 2, 3, 4]);
    expect(attempts("never", first)).toEqual([1]);
    const again = seen.find(({ body, attempt }) => body === "fail-2" && attempt === 3)!.message;
    expect(again).toMatchObject({ keys: ["k-fail-2"], id: seen.find(({ body }) => body === "fail-2")!.message.id });
    expect(again.properties.get("colour")).toBe("grün");
    expect(others.sort()).toEqual(["fail-2", "fail-9", "fine", "never"]);
    expect(dead.map(({ body, code }) => [body, code]).sort()).toEqual([
      ["fail-9", "attempts_exhausted"],
      ["never", "permanent"],
    ]);
    expect(dead.find(({ body }) => body === "never")!.retry).toContain("no_such_thing");
    expect(stats).toMatchObject({ crashes: 0, notHandedOver: 0, stale: 0, held: 0 });
  }, 120_000);

  it("RT-10 renews a message for as long as its handler runs", async () => {
    const { runs, stats } = await outlived(bench);
    expect(runs).toBe(1);
    expect(stats).toMatchObject({ succeeded: 1, stale: 0, crashes: 0, notAcknowledged: 0 });
  }, 90_000);

  it("RT-18 holds a message group back while its head fails", async () => {
    const { seen, stats } = await blocked(bench);
    const ofA = seen.filter(({ body }) => body !== "b1");
    expect(ofA.map(({ body, attempt }) => [body, attempt])).toEqual([
      ["fail-2", 1],
      ["fail-2", 2],
      ["fail-2", 3],
      ["a2", 1],
      ["a3", 1],
    ]);
    expect(stats.dead).toBe(0);
  }, 90_000);
});

describe("what is wrong at the start is said with a code", () => {
  const start = (options: object) =>
    startConsumer({ endpoint: server.endpoint, url: server.url, group: "g", topic: "t", ...options }, () => {}).catch(
      (error: unknown) => error,
    );
  it.each([
    [{ endpoint: "nowhere" }, "invalid_option", "endpoint"],
    [{ group: "" }, "invalid_option", "group"],
    [{ group: "x".repeat(118) }, "invalid_option", "group"],
    [{ topic: [] }, "invalid_option", "topic"],
    [{ topic: "a b" }, "invalid_option", "topic"],
    [{ concurrency: 0 }, "invalid_option", "concurrency"],
    [{ concurrency: 1.5 }, "invalid_option", "concurrency"],
    [{ order: "any" }, "invalid_option", "order"],
    [{ handlerTimeout: "soon" }, "invalid_option", "handlerTimeout"],
    [{ invisible: "5s" }, "invalid_option", "invisible"],
    [{ policy: { backoff: { kind: "fixed" } } }, "invalid_option", "policy.backoff.delay"],
    [{ url: "ftp://x" }, "invalid_option", "url"],
    [{ endpoint: "127.0.0.1:1", url: null }, "broker_unavailable", undefined],
  ])(
    "%j",
    async (options, code, field) => {
      expect(await start(options)).toMatchObject({ name: "EscapementConsumerError", code, field });
    },
    30_000,
  );
});
