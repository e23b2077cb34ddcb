import { createServer } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type ClientOptions, EscapementClient, type MessageInput } from "./client.ts";
import { ScriptedServer } from "./test/scripted-server.ts";

let server: ScriptedServer;
let clients: EscapementClient[] = [];

const connect = (options: ClientOptions = {}): EscapementClient => {
  const client = new EscapementClient({ retry: { initialMs: 1 }, ...options, url: options.url ?? server.url });
  clients.push(client);
  return client;
};

const failureOf = async (promise: Promise<unknown>): Promise<Record<string, unknown> & Error> => {
  try {
    await promise;
  } catch (error) {
    return error as Record<string, unknown> & Error;
  }
  throw new Error("It should have failed.");
};

const order: MessageInput = { topic: "orders", body: "hello", deliverAt: "2030-01-01T00:00:00.000Z" };

beforeEach(async () => {
  server = await ScriptedServer.start();
});

afterEach(async () => {
  for (const client of clients) client.close();
  clients = [];
  await server.stop();
});

describe("the calls", () => {
  it("schedules, reads, reschedules and cancels by id", async () => {
    const client = connect();
    const { id, state, deduplicated } = await client.schedule({ ...order, tag: "new", properties: { color: "red" } });
    expect({ state, deduplicated }).toEqual({ state: "scheduled", deduplicated: false });
    const details = await client.get(id, { body: true });
    expect(details).toMatchObject({ id, topic: "orders", tag: "new", properties: { color: "red" } });
    expect(new TextDecoder().decode(details.body)).toBe("hello");
    expect(await client.get(id)).not.toHaveProperty("body");
    const later = new Date("2031-01-01T00:00:00.000Z");
    expect((await client.reschedule(id, { deliverAt: later, body: "new" })).deliverAt).toBe(later.toISOString());
    expect(new TextDecoder().decode((await client.get(id, { body: true })).body)).toBe("new");
    expect((await client.cancel(id)).state).toBe("canceled");
    expect((await client.cancel(id)).state).toBe("canceled");
    expect(await failureOf(client.reschedule(id, { delay: "1h" }))).toMatchObject({ code: "too_late", status: 409 });
  });

  it("finds messages by the user's own key, whatever characters it has", async () => {
    const client = connect();
    const key = "a/b?c=d&e f#ü\u0001%2F";
    await client.schedule({ ...order, key });
    await client.schedule({ ...order, key, messageGroup: "g&h" });
    expect((await client.get({ key })).id).toBe(`key::${key}`);
    expect((await client.cancel({ key, messageGroup: "g&h" })).id).toBe(`key:g&h:${key}`);
    expect((await client.schedule({ ...order, key })).deduplicated).toBe(true);
    expect(await failureOf(client.get({ key: "other" }))).toMatchObject({ code: "not_found", status: 404 });
  });

  it("sends bytes as they are, JSON as text, and leaves unknown fields for the server to name", async () => {
    const client = connect();
    const bytes = new Uint8Array([9, 0, 255, 128, 9]).subarray(1, 4);
    await client.schedule({ topic: "orders", body: bytes, delay: 5_000 });
    await client.schedule({ topic: "orders", json: { a: [1, null] }, delay: "5s" });
    await client.schedule({ ...order, colour: "red" } as MessageInput);
    const [first, second, third] = server.schedules;
    expect(first).toMatchObject({ bodyBase64: "AP+A", delay: 5_000 });
    expect(second).toMatchObject({ body: '{"a":[1,null]}', delay: "5s" });
    expect(second).not.toHaveProperty("json");
    expect(third).toMatchObject({ colour: "red" });
  });

  it.each<[string, unknown, string]>([
    ["an invalid Date", { ...order, deliverAt: new Date(Number.NaN) }, "deliverAt"],
    ["NaN", { topic: "t", body: "b", delay: Number.NaN }, "delay"],
    ["a body that is an object", { topic: "t", body: { a: 1 }, delay: 1 }, "body"],
    ["body and json", { topic: "t", body: "b", json: 1, delay: 1 }, "body"],
    ["a circular value", { topic: "t", json: circular(), delay: 1 }, "json"],
    ["a BigInt somewhere", { ...order, properties: { n: 1n } }, "message"],
    ["no object", "hello", "message"],
  ])("refuses %s before anything is sent", async (_, message, field) => {
    const error = await failureOf(connect().schedule(message as MessageInput));
    expect(error).toMatchObject({ name: "EscapementInputError", code: "invalid_argument", field });
    expect(server.requests).toHaveLength(0);
  });

  it("shows stats and health, also when the server is not well", async () => {
    const client = connect();
    expect((await client.stats()).waiting.total).toBe(3);
    expect((await client.health()).status).toBe("ok");
    server.health = { status: "stopping", problems: [{ code: "shutting_down", detail: "It stops." }] };
    expect(await client.health()).toEqual(server.health);
  });

  it("sends the headers it was given, and keeps a path prefix", async () => {
    const client = connect({ url: `${server.url}/prefix/`, headers: { authorization: "Bearer t" } });
    await failureOf(client.stats());
    expect(server.requests[0]).toMatchObject({ path: "/prefix/v1/stats", headers: { authorization: "Bearer t" } });
  });

  it("keeps connections alive", async () => {
    const client = connect();
    for (let i = 0; i < 20; i++) await client.stats();
    // Now and then the next call begins before the last connection is free again.
    expect(server.connections).toBeLessThanOrEqual(3);
  });
});

describe("waiting for a state", () => {
  it("sees the change, also of a message that is not there yet", async () => {
    const client = connect();
    const waiting = client.waitFor({ key: "later" }, ["delivered", "dead"], { pollMs: 5 });
    await new Promise((resolve) => setTimeout(resolve, 30));
    const { id } = await client.schedule({ ...order, key: "later" });
    setTimeout(() => server.setState(id, "delivered"), 20);
    expect((await waiting).state).toBe("delivered");
  });

  it("says how far it came when time runs out, and gives up at once when the message ended otherwise", async () => {
    const client = connect();
    const { id } = await client.schedule(order);
    const late = await failureOf(client.waitFor(id, "delivered", { pollMs: 5, timeoutMs: 30 }));
    expect(late).toMatchObject({ code: "wait_timeout", last: { state: "scheduled" } });
    expect(late.message).toContain("after 30 ms it is scheduled");
    server.setState(id, "dead", { code: "topic_not_found", detail: "gone" });
    const dead = await failureOf(client.waitFor(id, "delivered", { timeoutMs: 5_000 }));
    expect(dead).toMatchObject({ code: "wait_ended", last: { state: "dead" } });
    expect(dead.message).toContain("topic_not_found: gone");
  });
});

describe("trying again", () => {
  it("is still one message when the reply is swallowed after the effect", async () => {
    server.script = [{ act: "swallow" }, { act: "half" }];
    const { deduplicated } = await connect().schedule(order);
    expect(deduplicated).toBe(false);
    expect(server.requests).toHaveLength(3);
    expect(server.messages.size).toBe(1);
    const keys = new Set(server.schedules.map(({ key }) => key));
    expect(keys.size).toBe(1);
    expect([...keys][0]).toMatch(/^auto-[0-9a-f-]{36}$/);
  });

  it("draws another key for another message, and keeps the user's own", async () => {
    const client = connect();
    await client.schedule(order);
    await client.schedule(order);
    await client.schedule({ ...order, key: "mine" });
    expect(new Set(server.schedules.map(({ key }) => key)).size).toBe(3);
    expect(server.schedules[2]!.key).toBe("mine");
  });

  it("does not repeat an unknown outcome without a key, and says that it is unknown", async () => {
    server.script = [{ act: "swallow" }];
    const error = await failureOf(connect().schedule(order, { idempotent: false }));
    expect(error).toMatchObject({ name: "EscapementUnreachableError", code: "unreachable", effect: "unknown" });
    expect(error.message).toContain("The outcome is unknown");
    expect(server.requests).toHaveLength(1);
    expect(server.schedules[0]).not.toHaveProperty("key");
  });

  it("repeats without a key what certainly had no effect", async () => {
    server.script = [
      { act: "problem", status: 429, code: "overloaded" },
      { act: "problem", status: 503, code: "store_refusing" },
    ];
    await connect().schedule(order, { idempotent: false });
    expect(server.messages.size).toBe(1);
    server.script = [{ act: "problem", status: 503, code: "store_unavailable" }];
    const error = await failureOf(connect().schedule(order, { idempotent: false }));
    expect(error).toMatchObject({ code: "store_unavailable", effect: "unknown", attempts: 1 });
  });

  it("waits as long as Retry-After says", async () => {
    server.script = [{ act: "problem", status: 429, code: "overloaded", retryAfter: "1" }];
    await connect().schedule(order);
    const [first, second] = server.requests;
    // Half a millisecond of grace: timers count whole milliseconds.
    expect(second!.atMs - first!.atMs).toBeGreaterThanOrEqual(999.5);
  });

  it("hands on a Retry-After that is too long to wait for", async () => {
    server.script = [{ act: "problem", status: 503, code: "store_full", retryAfter: "3600" }];
    const error = await failureOf(connect().schedule(order));
    expect(error).toMatchObject({ code: "store_full", retryAfterMs: 3_600_000, attempts: 1, effect: "none" });
  });

  it("gives up after maxAttempts, with the last answer and the memory of an unknown outcome", async () => {
    server.script = [
      { act: "swallow" },
      { act: "problem", status: 503, code: "shutting_down" },
      { act: "problem", status: 503, code: "shutting_down" },
    ];
    const error = await failureOf(connect({ retry: { maxAttempts: 3, initialMs: 1 } }).schedule(order));
    expect(error).toMatchObject({ code: "shutting_down", attempts: 3, effect: "unknown" });
  });

  it("does not repeat a refusal, and carries its field", async () => {
    const error = await failureOf(connect().schedule({ body: "x", delay: 1 } as unknown as MessageInput));
    expect(error).toMatchObject({ name: "EscapementApiError", code: "missing_field", field: "topic", effect: "none" });
    expect(error.message).toBe("Name a topic.");
    expect(server.requests).toHaveLength(1);
  });

  it("times each request out, and the whole reply counts", async () => {
    server.script = [
      { act: "late", ms: 400 },
      { act: "late", ms: 400 },
    ];
    const error = await failureOf(connect({ timeoutMs: 30, retry: { maxAttempts: 2, initialMs: 1 } }).schedule(order));
    expect(error).toMatchObject({ code: "unreachable", effect: "unknown", attempts: 2 });
    expect(error.message).toContain("no whole reply within 30 ms; 2 tries");
  });

  it("says that nothing was sent when nobody listens", async () => {
    const url = `http://127.0.0.1:${await freePort()}`;
    const error = await failureOf(connect({ url, retry: { maxAttempts: 2, initialMs: 1 } }).schedule(order));
    expect(error).toMatchObject({ code: "unreachable", effect: "none", attempts: 2 });
    expect(error.message).toBe(`Cannot reach ${url} (ECONNREFUSED; 2 tries). Nothing was sent.`);
  });

  it("comes through when the server starts a little later", async () => {
    const { url } = server;
    await server.stop();
    const scheduling = connect({ url, retry: { initialMs: 200, maxAttempts: 20 } }).schedule(order);
    await new Promise((resolve) => setTimeout(resolve, 100));
    server = await ScriptedServer.start(Number(new URL(url).port));
    expect((await scheduling).state).toBe("scheduled");
  });
});

describe("things that are not an Escapement server", () => {
  it.each([
    [{ act: "raw", status: 200, text: "<html>" } as const, "its body is not JSON"],
    [{ act: "raw", status: 404, text: "<html>" } as const, "not a problem document"],
    [
      { act: "raw", status: 307, text: "", headers: { location: "http://elsewhere/" } } as const,
      "redirects to http://elsewhere/",
    ],
  ])("are told apart: %j", async (act, text) => {
    server.script = [act];
    const error = await failureOf(connect().schedule(order));
    expect(error).toMatchObject({ code: "unexpected_reply", status: act.status });
    expect(error.message).toContain(text);
    expect(server.requests).toHaveLength(1);
  });

  it("are not believed about health", async () => {
    server.script = [{ act: "raw", status: 200, text: '{"ok":true}' }];
    expect(await failureOf(connect().health())).toMatchObject({ code: "unexpected_reply" });
  });

  it.each(["nonsense", "ftp://h", "http://u:secret@h", "http://h/?a=1"])("as an address: %s", (url) => {
    let error: unknown;
    try {
      new EscapementClient({ url });
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({ code: "invalid_argument", field: "url" });
    expect(String(error)).not.toContain("secret");
  });
});

describe("ending early", () => {
  it("rejects with the caller's reason, during the request and during the wait before a retry", async () => {
    server.script = [{ act: "late", ms: 2_000 }];
    const reason = new Error("changed my mind");
    for (const script of [[{ act: "late", ms: 2_000 } as const], [{ act: "cut" } as const]]) {
      server.script = script;
      const controller = new AbortController();
      const client = connect({ retry: { initialMs: 10_000, maxMs: 10_000 } });
      const scheduling = failureOf(client.schedule(order, { signal: controller.signal }));
      setTimeout(() => controller.abort(reason), 50);
      expect(await scheduling).toBe(reason);
    }
    expect(await failureOf(connect().stats({ signal: AbortSignal.abort(reason) }))).toBe(reason);
  });

  it("closes: what is under way and what comes later rejects", async () => {
    const client = connect();
    server.script = [{ act: "late", ms: 2_000 }];
    const scheduling = failureOf(client.schedule(order));
    setTimeout(() => client.close(), 30);
    expect(await scheduling).toMatchObject({ code: "closed" });
    expect(await failureOf(client.stats())).toMatchObject({ code: "closed" });
  });

  it("warns about nothing when a hundred calls share one signal", async () => {
    const warnings: Error[] = [];
    const note = (warning: Error): number => warnings.push(warning);
    process.on("warning", note);
    const { signal } = new AbortController();
    const client = connect();
    await Promise.all(Array.from({ length: 100 }, () => client.schedule(order, { signal })));
    await new Promise((resolve) => setImmediate(resolve));
    process.off("warning", note);
    expect(warnings).toEqual([]);
    expect(server.messages.size).toBe(100);
  });
});

function circular(): object {
  const value: Record<string, unknown> = {};
  value.self = value;
  return value;
}

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });
