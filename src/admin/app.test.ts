import { afterAll, beforeEach, describe, expect, it, test } from "vitest";
import { type ErrorCode, EscapementError, errorTable } from "../message/errors.ts";
import type { BatchReply, MessageReply, Problem } from "../wire/http.ts";
import { buryIn, type TestApp, testApp, testStats } from "./testing.ts";

const t: TestApp = testApp();
beforeEach(() => {
  t.intake.reset();
  t.overview.current = { status: "ok", problems: [] };
  t.bugs.length = 0;
});
afterAll(async () => {
  await t.app.close();
});

const json = { "content-type": "application/json" };
const least = { topic: "orders", body: "hello", delay: "30m" };
const post = (payload: unknown, url = "/v1/messages") =>
  t.app.inject({ method: "POST", url, headers: json, payload: JSON.stringify(payload) });
const schedule = async (more: object = {}): Promise<MessageReply> => (await post({ ...least, ...more })).json();

describe("scheduling one message", () => {
  it("answers 201 with what holds for it", async () => {
    const reply = await post(least);
    expect(reply.statusCode).toBe(201);
    expect(reply.headers["content-type"]).toBe("application/json; charset=utf-8");
    expect(reply.json()).toEqual({
      id: t.intake.accepted[0]?.id,
      state: "scheduled",
      deliverAt: "2027-01-15T08:30:00.000Z",
      attempt: 0,
      deduplicated: false,
    });
    expect(t.intake.accepted[0]?.body.toString()).toBe("hello");
  });

  it("answers 200 for a key that is known, with the first message", async () => {
    const first = await schedule({ key: "k" });
    const again = await post({ ...least, key: "k", delay: "1h" });
    expect(again.statusCode).toBe(200);
    expect(again.json()).toEqual({ ...first, deduplicated: true });
  });

  it("keeps every byte of a body", async () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    const { id } = await schedule({ body: undefined, bodyBase64: bytes.toString("base64") });
    const details = await t.app.inject(`/v1/messages/${id}?body=true`);
    expect(Buffer.from(details.json().bodyBase64, "base64")).toEqual(bytes);
    const text = "naïve \u{1F4E8}\0\r\n\u2028\ufeff";
    await schedule({ body: text });
    expect(t.intake.accepted[1]?.body).toEqual(Buffer.from(text));
  });

  it("takes the tenant from the credential, never from the body", async () => {
    const { app, intake } = testApp({ tenantOf: (request) => String(request.headers["x-test-tenant"]) });
    const as = (tenant: string) => ({ ...json, "x-test-tenant": tenant });
    const send = (payload: object) =>
      app.inject({ method: "POST", url: "/v1/messages", headers: as("a"), payload: JSON.stringify(payload) });
    const one = await send({ ...least, key: "k" });
    expect(intake.accepted[0]?.tenant).toBe("a");
    const url = "/v1/messages?key=k";
    expect((await app.inject({ url, headers: as("b") })).statusCode).toBe(404);
    expect((await app.inject({ url, headers: as("a") })).json().id).toBe(one.json().id);
    expect((await send({ ...least, tenant: "b" })).json()).toMatchObject({ code: "unknown_field", field: "tenant" });
    await app.close();
  });
});

describe("one message that is known", () => {
  it("is found by its id in either case and by its key, and shows its body only when asked", async () => {
    const { id } = await schedule({ key: "a/b c+d&e=é", messageGroup: "g", tag: "x", properties: { p: "v" } });
    const byKey = `/v1/messages?key=${encodeURIComponent("a/b c+d&e=é")}&messageGroup=g`;
    const found = (await t.app.inject(byKey)).json();
    expect(found).toEqual({
      id,
      state: "scheduled",
      deliverAt: "2027-01-15T08:30:00.000Z",
      attempt: 0,
      key: "a/b c+d&e=é",
      topic: "orders",
      tag: "x",
      keys: [],
      properties: { p: "v" },
      messageGroup: "g",
      acceptedAt: "2027-01-15T08:00:00.000Z",
      bodyBytes: 5,
    });
    expect((await t.app.inject(`/v1/messages/${id.toUpperCase()}`)).json()).toEqual(found);
    expect((await t.app.inject(`${byKey}&body=true`)).json()).toEqual({ ...found, bodyBase64: "aGVsbG8=" });
    expect((await t.app.inject("/v1/messages?key=a%2Fb+c%2Bd%26e%3D%C3%A9&messageGroup=g")).json()).toEqual(found);
  });

  it("is canceled by id and by key, with or without a content type", async () => {
    const { id } = await schedule({ key: "k" });
    const canceled = await t.app.inject({ method: "DELETE", url: `/v1/messages/${id}`, headers: json });
    expect(canceled.statusCode).toBe(200);
    expect(canceled.json()).toMatchObject({ id, state: "canceled" });
    expect((await t.app.inject({ method: "DELETE", url: "/v1/messages?key=k" })).json()).toMatchObject({ id });
  });

  it("is rescheduled by id and by key", async () => {
    const { id } = await schedule({ key: "k" });
    const patch = (url: string, payload: object) =>
      t.app.inject({ method: "PATCH", url, headers: json, payload: JSON.stringify(payload) });
    expect((await patch(`/v1/messages/${id}`, { delay: "1h" })).json()).toMatchObject({
      id,
      deliverAt: "2027-01-15T09:00:00.000Z",
    });
    expect((await patch("/v1/messages?key=k", { deliverAt: "2027-02-01T00:00:00Z" })).json()).toMatchObject({
      deliverAt: "2027-02-01T00:00:00.000Z",
    });
    const refused = await patch("/v1/messages?key=k", { delay: "1h", topic: "other" });
    expect(refused.json()).toMatchObject({ code: "unknown_field", field: "topic", status: 400 });
  });

  it("answers too_late and not_found truly", async () => {
    const { id } = await schedule();
    t.intake.put(id, "delivered");
    const late = await t.app.inject({ method: "DELETE", url: `/v1/messages/${id}` });
    expect(late.statusCode).toBe(409);
    expect(late.json()).toMatchObject({ code: "too_late", status: 409 });
    const nowhere = await t.app.inject("/v1/messages/00000000-0000-4000-8000-000000000000");
    expect(nowhere.statusCode).toBe(404);
    expect(nowhere.json()).toMatchObject({ code: "not_found" });
  });
});

describe("a batch as an array", () => {
  it("answers each item in order, and one bad item does not spoil the rest", async () => {
    const reply = await post([least, { ...least, topic: "" }, 7, least], "/v1/messages/batch");
    expect(reply.statusCode).toBe(200);
    const { accepted, rejected, results } = reply.json<BatchReply>();
    expect([accepted, rejected]).toEqual([2, 2]);
    expect(results.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    expect(results[0]).toMatchObject({ message: { state: "scheduled" } });
    expect(results[1]).toMatchObject({ error: { code: "invalid_topic", field: "topic", status: 400 } });
    expect(results[2]).toMatchObject({ error: { code: "invalid_request" } });
    expect(t.intake.accepted).toHaveLength(2);
  });

  test.each<[string, unknown, string]>([
    ["an object", least, "invalid_request"],
    ["1,001 items", Array(1001).fill(least), "too_many_items"],
  ])("refuses %s as a whole", async (_, payload, code) => {
    expect((await post(payload, "/v1/messages/batch")).json()).toMatchObject({ code });
    expect(t.intake.accepted).toHaveLength(0);
  });

  it("takes 1,000 items, and none", async () => {
    expect((await post(Array(1000).fill(least), "/v1/messages/batch")).json()).toMatchObject({ accepted: 1000 });
    expect((await post([], "/v1/messages/batch")).json()).toEqual({ accepted: 0, rejected: 0, results: [] });
  });
});

describe("operation", () => {
  it("gives stats, metrics and a page of the dead as they are", async () => {
    expect((await t.app.inject("/v1/stats")).json()).toEqual(testStats);
    const metrics = await t.app.inject("/metrics");
    expect([metrics.headers["content-type"], metrics.payload]).toEqual([
      "text/plain; version=0.0.4; charset=utf-8",
      "esc_up 1\n",
    ]);
    const ids: string[] = [];
    // In the order of shards, and in a shard of their coming.
    for (const end of ["0000", "0002", "0001"]) ids.push(await buryIn(t, `01a3185c-8a00-7c11-9d2e-5b7f0c3a${end}`));
    const first = (await t.app.inject("/v1/dead?limit=2")).json();
    expect(first.items).toHaveLength(2);
    expect(first.items[0]).toMatchObject({ state: "dead", reason: { code: "topic_not_found" } });
    const second = (await t.app.inject(`/v1/dead?limit=2&cursor=${first.cursor}`)).json();
    expect([...first.items, ...second.items].map(({ id }) => id)).toEqual(ids);
    expect([first.complete, second.complete, second.cursor]).toEqual([false, true, undefined]);
    await t.app.inject({ method: "POST", url: "/v1/dead/discard", payload: { filter: {}, reason: "over" } });
    expect((await t.app.inject("/v1/dead")).json()).toEqual({ items: [], scanned: 0, complete: true });
  });

  it("begins a redrive with 201, shows it, and takes its commands with and without a body", async () => {
    const id = await buryIn(t, "01a3185c-8a00-7c11-9d2e-5b7f0c3a0004");
    const dry = await t.app.inject({ method: "POST", url: "/v1/redrives", payload: { filter: {}, dryRun: true } });
    expect([dry.statusCode, dry.json()]).toMatchObject([200, { dryRun: true, matched: 1, sample: [{ id }] }]);
    const payload = { filter: { ids: [id] }, reason: "mended", by: "ada" };
    const begun = await t.app.inject({ method: "POST", url: "/v1/redrives", payload });
    expect([begun.statusCode, begun.json()]).toMatchObject([
      201,
      { state: "canary", by: "ada", filter: { ids: [id] } },
    ]);
    const url = `/v1/redrives/${begun.json().id}`;
    expect((await t.app.inject({ method: "POST", url: `${url}/pause` })).json()).toMatchObject({ state: "paused" });
    const resumed = await t.app.inject({ method: "POST", url: `${url}/resume`, payload: { reason: "on" } });
    expect(resumed.json()).toMatchObject({ state: "canary" });
    expect((await t.app.inject({ method: "POST", url: `${url}/cancel` })).json()).toMatchObject({ state: "canceled" });
    const late = await t.app.inject({ method: "POST", url: `${url}/resume` });
    expect([late.statusCode, late.json().code]).toEqual([409, "too_late"]);
    expect((await t.app.inject("/v1/redrives")).json().items).toHaveLength(1);
    expect((await t.app.inject("/v1/dead/audit")).json().items.length).toBeGreaterThan(3);
    for (const [request, code] of [
      [{ filter: {} }, "invalid_field"],
      [{ reason: "x" }, "missing_field"],
      [{ filter: { colour: "red" }, reason: "x" }, "invalid_field"],
    ] as const) {
      const refused = await t.app.inject({ method: "POST", url: "/v1/redrives", payload: request });
      expect([refused.statusCode, refused.json().code]).toEqual([400, code]);
    }
    const unknown = await t.app.inject("/v1/redrives/nope");
    expect([unknown.statusCode, unknown.json().code]).toEqual([404, "redrive_not_found"]);
  });

  it("is live while it answers and ready only when all is well", async () => {
    expect((await t.app.inject("/health/ready")).statusCode).toBe(200);
    t.overview.current = { status: "degraded", problems: [{ code: "store_refusing", detail: "Redis is read-only." }] };
    const ready = await t.app.inject("/health/ready");
    expect(ready.statusCode).toBe(503);
    expect(ready.json()).toEqual(t.overview.current);
    expect((await t.app.inject("/health/live")).statusCode).toBe(200);
    t.overview.current = { status: "stopping", problems: [] };
    expect((await t.app.inject("/health/ready")).statusCode).toBe(503);
  });
});

describe("errors", () => {
  test.each(Object.keys(errorTable) as ErrorCode[])("%s has its status, its words and no more", async (code) => {
    t.intake.failure = new EscapementError(code, "Do this.", { field: "f", cause: new Error("secret") });
    const reply = await post(least);
    expect(reply.statusCode).toBe(errorTable[code].status);
    expect(reply.headers["content-type"]).toBe("application/problem+json; charset=utf-8");
    expect(reply.json<Problem>()).toEqual({
      type: `urn:escapement:error:${code}`,
      title: errorTable[code].title,
      status: errorTable[code].status,
      code,
      detail: "Do this.",
      field: "f",
    });
  });

  it("say when to come back, in whole seconds", async () => {
    for (const [retryAfterMs, seconds] of [
      [1, "1"],
      [1000, "1"],
      [1001, "2"],
      [0, "1"],
    ] as const) {
      t.intake.failure = new EscapementError("overloaded", "Wait.", { retryAfterMs });
      expect((await post(least)).headers["retry-after"]).toBe(seconds);
    }
    t.intake.failure = new EscapementError("store_full", "Full.");
    expect((await post(least)).headers["retry-after"]).toBeUndefined();
  });

  it("log a bug, and tell nothing of it", async () => {
    t.intake.failure = new TypeError("secret of line 7");
    const reply = await post(least);
    expect(reply.statusCode).toBe(500);
    expect(reply.json()).toMatchObject({ code: "internal" });
    expect(reply.payload).not.toContain("secret");
    expect(t.bugs).toEqual([expect.objectContaining({ err: t.intake.failure, route: "/v1/messages" })]);
  });

  test.each<[string, string, number, string]>([
    ["GET", "/nowhere", 404, "route_not_found"],
    ["GET", "/", 404, "route_not_found"],
    ["PUT", "/v1/messages/x", 404, "route_not_found"],
    ["POST", "/v1/stats", 404, "route_not_found"],
    ["GET", "/v1/messages/", 400, "invalid_id"],
    ["GET", "/v1/messages/42", 400, "invalid_id"],
    ["GET", `/v1/messages/${"a".repeat(5000)}`, 400, "invalid_id"],
    ["GET", "/v1/messages/00000000-0000-4000-8000-00000000000g", 400, "invalid_id"],
    ["GET", "/v1/messages/%FF", 400, "invalid_request"],
    ["GET", "/v1/messages", 400, "missing_field"],
    ["GET", "/v1/messages?key=", 400, "invalid_field"],
    ["GET", "/v1/messages?key=%00", 400, "invalid_field"],
    ["GET", "/v1/messages?key=%FF", 400, "invalid_utf8"],
    ["GET", "/v1/messages?key=%ED%A0%80", 400, "invalid_utf8"],
    ["GET", "/v1/messages?key=a%2", 400, "invalid_utf8"],
    ["GET", "/v1/messages?key=a&key=b", 400, "invalid_field"],
    ["GET", "/v1/messages?key[]=a", 400, "unknown_field"],
    ["GET", "/v1/messages?key=a&messagegroup=g", 400, "unknown_field"],
    ["GET", "/v1/messages?key=a&body=1", 400, "invalid_field"],
    ["GET", "/v1/messages?__proto__=a", 400, "unknown_field"],
    ["GET", "/v1/messages/00000000-0000-4000-8000-000000000000?key=a", 400, "unknown_field"],
    ["DELETE", "/v1/messages?key=a&body=true", 400, "unknown_field"],
    ["DELETE", "/v1/messages/42", 400, "invalid_id"],
    ["GET", "/v1/dead?limit=0", 400, "invalid_field"],
    ["GET", "/v1/dead?limit=1001", 400, "invalid_field"],
    ["GET", "/v1/dead?limit=1e2", 400, "invalid_field"],
    ["GET", "/v1/dead?limit=", 400, "invalid_field"],
    ["GET", "/v1/dead?cursor=", 400, "invalid_field"],
    ["GET", "/v1/dead?from=yesterday", 400, "invalid_field"],
    ["GET", "/v1/dead?colour=red", 400, "unknown_field"],
    ["GET", "/v1/dead/x", 400, "invalid_id"],
    ["GET", "/v1/redrives/x/outcomes?outcome=odd", 400, "invalid_field"],
    ["GET", `/v1/dead?cursor=${"9".repeat(257)}`, 400, "invalid_field"],
    ["GET", "/v1/stats?x", 400, "unknown_field"],
  ])("%s %s is %i %s", async (method, url, status, code) => {
    const reply = await t.app.inject({ method: method as "GET", url });
    expect([reply.statusCode, reply.json<Problem>().code]).toEqual([status, code]);
    expect(reply.headers["content-type"]).toBe("application/problem+json; charset=utf-8");
    expect(t.bugs).toEqual([]);
  });

  it("name the methods that a route takes", async () => {
    const reply = await t.app.inject({ method: "PUT", url: "/v1/messages?key=a" });
    expect(reply.headers.allow).toBe("DELETE, GET, HEAD, PATCH, POST");
    expect(reply.json<Problem>().detail).toMatch(/PUT is not taken here/);
  });
});
