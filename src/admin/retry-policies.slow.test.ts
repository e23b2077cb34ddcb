import { afterAll, describe, expect, it } from "vitest";
import { simulateRetries } from "../retry/simulate.ts";
import { testApp } from "./testing.ts";

// Stored policies, bindings and replays through the whole HTTP app.

const t = testApp();
afterAll(() => t.app.close());

const ask = async (
  method: "GET" | "PUT" | "POST" | "DELETE",
  path: string,
  payload?: unknown,
  type = "application/json",
) => {
  const reply = await t.app.inject({
    method,
    url: `/v1/${path}`,
    ...(payload === undefined
      ? {}
      : {
          payload: typeof payload === "string" ? payload : JSON.stringify(payload),
          headers: { "content-type": type },
        }),
  });
  return { status: reply.statusCode, ...reply.json() };
};
const fixed = (delay: string, more: object = {}) => ({ backoff: { kind: "fixed", delay, jitter: "none" }, ...more });

describe("a stored retry policy", () => {
  it("is written, read in any version, listed, and deleted", async () => {
    expect(
      await ask("PUT", "retry-policies/slow", { policy: fixed("1m"), by: "ops", why: "calm down", ifVersion: 0 }),
    ).toEqual({
      status: 200,
      name: "slow",
      version: 1,
      policy: fixed("1m"),
      latest: 1,
      preset: false,
      deleted: false,
      changed: true,
      at: "2027-01-15T08:00:00.000Z",
      by: "ops",
      why: "calm down",
    });
    expect(await ask("PUT", "retry-policies/slow", { policy: fixed("1m") })).toMatchObject({
      version: 1,
      changed: false,
    });
    expect(await ask("PUT", "retry-policies/slow", { policy: fixed("2m") })).toMatchObject({
      version: 2,
      changed: true,
    });
    expect(await ask("GET", "retry-policies/slow@1")).toMatchObject({ policy: fixed("1m"), latest: 2 });
    expect(await ask("GET", "retry-policies/slow/versions")).toMatchObject({
      versions: [{ version: 2 }, { version: 1, why: "calm down" }],
      more: false,
    });
    expect(await ask("GET", "retry-policies/slow/versions?before=2")).toMatchObject({ versions: [{ version: 1 }] });
    expect(await ask("GET", "retry-policies")).toMatchObject({
      policies: [
        { name: "slow", version: 2, preset: false, bindings: 0 },
        { name: "default", preset: true },
        { name: "rocketmq-ladder" },
        { name: "rocketmq-exponential" },
      ],
    });
    expect(await ask("DELETE", "retry-policies/slow?ifVersion=2&why=not%20needed")).toEqual({
      status: 200,
      name: "slow",
      version: 3,
      bindingsRemoved: [],
    });
    expect(await ask("GET", "retry-policies/slow")).toMatchObject({ status: 404, code: "policy_not_found" });
    expect(await ask("GET", "retry-policies/slow@2")).toMatchObject({ status: 200, deleted: true });
    expect(await ask("GET", "retry-policies/slow@3")).toMatchObject({ policy: null, why: "not needed" });
    expect(await ask("POST", "retry-policies/slow@3/simulate", {})).toMatchObject({ code: "policy_not_found" });
  });

  it("keeps the shape of what was written, whatever fields it has", async () => {
    const policy = {
      backoff: { kind: "list", delays: ["1s", 60_000, "level:5"] },
      rules: [{ when: { status: "5xx", fromAttempt: 2 }, action: "retry", backoff: { base: "1m" } }],
      limits: { maxAge: null, deadline: "2030-01-01T00:00:00Z" },
      breaker: null,
      budget: { minPerSec: 0.5 },
      dead: { keep: "90d" },
      inFlight: "keep",
    };
    await ask("PUT", "retry-policies/whole", { policy });
    expect((await ask("GET", "retry-policies/whole")).policy).toEqual(policy);
  });

  it.each([
    ["PUT", "retry-policies/default", { policy: {} }, 409, "policy_preset", "name"],
    ["DELETE", "retry-policies/default", undefined, 409, "policy_preset", "name"],
    ["DELETE", "retry-policies/nowhere", undefined, 404, "policy_not_found", undefined],
    ["GET", "retry-policies/nowhere", undefined, 404, "policy_not_found", undefined],
    ["GET", "retry-policies/nowhere/versions", undefined, 404, "policy_not_found", undefined],
    ["GET", "retry-policies/a%20b", undefined, 400, "invalid_field", "name"],
    ["GET", "retry-policies/whole@x", undefined, 400, "invalid_field", "name"],
    ["GET", "retry-policies?all=1", undefined, 400, "unknown_field", "all"],
    ["GET", "retry-policies/whole/versions?before=0", undefined, 400, "invalid_field", "before"],
    ["PUT", "retry-policies/simulate", { policy: {} }, 400, "invalid_field", "name"],
    ["PUT", "retry-policies/p", { policy: { backoff: { base: 5 } } }, 400, "invalid_field", "policy.backoff.base"],
    ["PUT", "retry-policies/p", { policy: { backoff: { base: "-5s" } } }, 400, "invalid_field", "policy.backoff.base"],
    ["PUT", "retry-policies/p", { policy: {}, ifVersion: 7 }, 409, "policy_changed", "ifVersion"],
    ["PUT", "retry-policies/p", "{", 400, "invalid_json", undefined],
    ["PUT", "retry-policies/p", JSON.stringify({ why: "x".repeat(200_000) }), 413, "request_too_large", undefined],
    ["DELETE", "retry-policies/whole?ifVersion=9", undefined, 409, "policy_changed", "ifVersion"],
    ["DELETE", "retry-policies/whole?withBindings=yes", undefined, 400, "invalid_field", "withBindings"],
    ["DELETE", "retry-policies/whole?by=%01", undefined, 400, "invalid_field", "by"],
    ["PUT", "retry-bindings", { policy: "nowhere" }, 404, "policy_not_found", undefined],
    ["PUT", "retry-bindings", { topic: "a b", policy: "whole" }, 400, "invalid_field", "topic"],
    ["DELETE", "retry-bindings?topic=nowhere", undefined, 404, "binding_not_found", undefined],
    ["DELETE", "retry-bindings?topics=x", undefined, 400, "unknown_field", "topics"],
    ["POST", "retry-policies/whole/simulate", { policy: {} }, 400, "invalid_field", "request.policy"],
    ["POST", "retry-policies/replay", { failures: [] }, 400, "invalid_field", "failures"],
    ["POST", "retry-policies/replay", { failures: [{ message: "m", atMs: 18e11 }] }, 400, "invalid_field", "candidate"],
    [
      "POST",
      "retry-policies/nowhere/replay",
      { failures: [{ message: "m", atMs: 18e11 }] },
      404,
      "policy_not_found",
      undefined,
    ],
  ] as const)("bad input has a coded answer: %s %s %j", async (method, path, payload, status, code, field) => {
    const reply = await ask(method, path, payload);
    expect({ status: reply.status, code: reply.code, field: reply.field }).toEqual({ status, code, field });
    expect(reply.detail.length).toBeGreaterThan(10);
  });

  it("says what it would do, in any version", async () => {
    await ask("PUT", "retry-policies/asked", { policy: fixed("1m") });
    await ask("PUT", "retry-policies/asked", { policy: fixed("2m") });
    const error = { class: "throttled", retryAfter: "90s" } as const;
    const { status, ...said } = await ask("POST", "retry-policies/asked@1/simulate", { error, attempts: 3 });
    expect(status).toBe(200);
    expect(said).toEqual(simulateRetries({ policy: fixed("1m"), error, attempts: 3 }));
    expect((await ask("POST", "retry-policies/asked/simulate", {})).attempts[0].waitMs.meanMs).toBe(120_000);
  });
});

describe("bindings", () => {
  it("are made, listed the most special first, and removed; a bound policy stays", async () => {
    await ask("PUT", "retry-policies/bound", { policy: fixed("1s") });
    await ask("PUT", "retry-bindings", { topic: "orders", policy: "bound" });
    expect(await ask("PUT", "retry-bindings", { topic: "orders", group: "billing", policy: "bound" })).toEqual({
      status: 200,
      bindings: [
        { topic: "orders", group: "billing", policy: "bound" },
        { topic: "orders", policy: "bound" },
      ],
    });
    expect(t.policies.policyFor("orders", undefined)?.backoff).toMatchObject({ kind: "fixed" });
    expect(await ask("DELETE", "retry-policies/bound")).toMatchObject({
      status: 409,
      code: "policy_bound",
      detail: expect.stringContaining("group billing, topic orders; topic orders"),
    });
    expect(await ask("DELETE", "retry-bindings?topic=orders&group=billing")).toMatchObject({
      bindings: [{ topic: "orders", policy: "bound" }],
    });
    expect(await ask("DELETE", "retry-policies/bound?withBindings=true")).toMatchObject({
      bindingsRemoved: [{ topic: "orders", policy: "bound" }],
    });
    expect(await ask("GET", "retry-bindings")).toEqual({ status: 200, bindings: [] });
  });

  it("that would send dead messages in a circle are refused, with the circle", async () => {
    await ask("PUT", "retry-policies/ring", { policy: { dead: { topic: "orders-dead" } } });
    await ask("PUT", "retry-bindings", { topic: "orders", policy: "ring" });
    expect(await ask("PUT", "retry-bindings", { topic: "orders-dead", policy: "ring" })).toMatchObject({
      status: 409,
      code: "policy_circle",
      detail: expect.stringContaining("ring sends its dead to orders-dead, where ring decides"),
    });
    await ask("DELETE", "retry-bindings?topic=orders");
  });
});

describe("a replay", () => {
  const failures = [
    { message: "a", atMs: 1_800_000_000_000, status: 503, succeededAtMs: 1_800_000_060_000 },
    { message: "b", atMs: 1_800_000_000_000, class: "permanent", code: "bad" },
  ];
  const lines = failures.map((failure) => JSON.stringify(failure)).join("\n");

  it("compares a candidate with what was and with a stored policy", async () => {
    await ask("PUT", "retry-policies/was", { policy: fixed("10s") });
    const reply = await ask("POST", "retry-policies/replay", { failures, candidate: fixed("45s"), against: "was" });
    expect(reply.recorded).toMatchObject({ messages: 2, calls: 3, succeeded: 1, dead: 1 });
    expect(reply.results).toMatchObject([
      { policy: "candidate", calls: 4, succeeded: 1, deadByCode: { permanent: 1 }, delayMs: { p50: 90_000 } },
      { policy: "was@1", calls: 8, delayMs: { p50: 60_000 } },
    ]);
    expect(reply.results[0].perMessage).toBeUndefined();
  });

  it("takes lines too, and tells each message where asked", async () => {
    for (const text of [lines, `${lines}\n`, `\n${lines.replaceAll("\n", "\r\n")}\r\n\r\n`]) {
      const path = "retry-policies/was@1/replay?messages=true&against=rocketmq-ladder&seed=3";
      const reply = await ask("POST", path, text, "application/x-ndjson");
      expect(reply.results.map(({ policy }: { policy: string }) => policy)).toEqual(["was@1", "rocketmq-ladder@0"]);
      expect(reply.results[0].perMessage).toEqual([
        { message: "a", outcome: "succeeded", calls: 7, afterMs: 60_000 },
        { message: "b", outcome: "dead", code: "permanent", calls: 1, afterMs: 0 },
      ]);
    }
  });

  it.each([
    ["retry-policies/was/replay", `${lines}\n{`, "invalid_json"],
    ["retry-policies/was/replay", `${lines}\n7`, "invalid_field"],
    ["retry-policies/was/replay?seed=x", lines, "invalid_field"],
    ["retry-policies/was/replay?seed=", lines, "invalid_field"],
    ["retry-policies/was/replay?messages=perhaps", lines, "invalid_field"],
    ["retry-policies/was/replay?against=nowhere", lines, "policy_not_found"],
    ["retry-policies/was/replay?candidate=x", lines, "unknown_field"],
    ["retry-policies/was/replay", "", "invalid_field"],
    ["retry-policies/replay", lines, "unsupported_media_type"],
  ])("of bad lines has a coded answer: %s %#", async (path, text, code) => {
    expect(await ask("POST", path, text, "application/x-ndjson")).toMatchObject({ code });
  });

  it("lets other requests through while it is at work", async () => {
    const many = Array.from({ length: 1_000 }, (_, i) => ({ message: `m${i}`, atMs: 1_800_000_000_000 + i }));
    let isDone = false;
    const long = ask("POST", "retry-policies/default/replay", { failures: many }).then((reply) => {
      isDone = true;
      return reply;
    });
    let others = 0;
    while (!isDone) {
      await ask("GET", "retry-bindings");
      await new Promise((resolve) => setTimeout(resolve, 1));
      others++;
    }
    expect((await long).results[0]).toMatchObject({ messages: 1_000, dead: 1_000 });
    expect(others).toBeGreaterThan(3);
  });
});

it("nothing of all this was a bug", () => {
  expect(t.bugs).toEqual([]);
});
