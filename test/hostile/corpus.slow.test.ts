import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { testApp } from "../../src/admin/testing.ts";
import { errorTable } from "../../src/message/errors.ts";
import type { BatchReply, Problem } from "../../src/wire/http.ts";
import { hostileMessages, hostileRequests, least } from "./corpus.ts";

// Every hostile input is refused with its code, its field and a sentence; nothing of it reaches the store, and nothing
// of it makes the service think that it has a bug.

const t = testApp();
const json = { "content-type": "application/json" };
beforeAll(async () => {
  await t.app.ready();
});
beforeEach(() => {
  t.intake.reset();
  t.bugs.length = 0;
});
afterAll(() => t.app.close());

const nothingHappened = () => {
  expect(t.intake.accepted).toEqual([]);
  expect(t.intake.changes).toBe(0);
  expect(t.bugs).toEqual([]);
};

const expectProblem = (problem: Problem, expected: { code: string; field?: string }, name: string) => {
  const { status, title } = errorTable[expected.code as keyof typeof errorTable];
  expect({ code: problem.code, field: problem.field, status: problem.status, title: problem.title }, name).toEqual({
    code: expected.code,
    field: expected.field,
    status,
    title,
  });
  expect(problem.detail.length, name).toBeGreaterThan(10);
  expect(problem.detail.length, name).toBeLessThan(600);
};

describe(`${hostileMessages.length} hostile messages`, () => {
  it("are enough, and no two are the same", () => {
    expect(hostileMessages.length + hostileRequests.length).toBeGreaterThanOrEqual(500);
    const texts = hostileMessages.map((message) => message.json);
    expect(texts.filter((text, i) => texts.indexOf(text) !== i)).toEqual([]);
  });

  it.each(hostileMessages)("alone: $name", async ({ name, json: payload, code, field }) => {
    const reply = await t.app.inject({ method: "POST", url: "/v1/messages", headers: json, payload });
    expect(reply.statusCode).toBe(errorTable[code].status);
    expect(reply.headers["content-type"]).toBe("application/problem+json; charset=utf-8");
    expectProblem(reply.json(), { code, ...(field === undefined ? {} : { field }) }, name);
    nothingHappened();
  });

  // Some of them are refused by the parser for the whole array.
  const parsed = hostileMessages.filter(
    ({ json: text, code }) => code !== "invalid_request" || !text.includes("proto"),
  );
  const good = JSON.stringify(least);

  it("each get their own answer in an array, and spoil nothing for the others", async () => {
    const small = parsed.filter(({ json: text }) => text.length < 200_000);
    for (let from = 0; from < small.length; from += 300) {
      const some = small.slice(from, from + 300);
      const payload = `[${some.map((message) => `${message.json},${good}`).join(",")}]`;
      const reply = await t.app.inject({ method: "POST", url: "/v1/messages/batch", headers: json, payload });
      const { accepted, rejected, results } = reply.json<BatchReply>();
      expect([accepted, rejected]).toEqual([some.length, some.length]);
      some.forEach((message, i) => {
        const bad = results[2 * i]!;
        expectProblem("error" in bad ? bad.error : ({} as Problem), message, message.name);
        expect(results[2 * i + 1]).toMatchObject({ index: 2 * i + 1, message: { state: "scheduled" } });
      });
    }
    expect(t.intake.accepted).toHaveLength(small.length);
    expect(t.bugs).toEqual([]);
  });

  it("each get their own answer as lines, also those that spoil an array", async () => {
    const payload = hostileMessages.map((message) => `${message.json}\n${good}\n`).join("");
    const headers = { "content-type": "application/x-ndjson" };
    const reply = await t.app.inject({ method: "POST", url: "/v1/messages/batch", headers, payload });
    const results = reply.payload
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(results).toHaveLength(2 * hostileMessages.length);
    hostileMessages.forEach((message, i) => {
      expectProblem(results[2 * i].error, message, message.name);
      expect(results[2 * i + 1]).toMatchObject({ index: 2 * i + 1, message: { state: "scheduled" } });
    });
    expect(t.intake.accepted).toHaveLength(hostileMessages.length);
    expect(t.bugs).toEqual([]);
  });
});

describe(`${hostileRequests.length} hostile requests`, () => {
  it.each(hostileRequests)("$name", async ({ name, method, url, headers, payload, code, field }) => {
    if (method === "PATCH") await t.intake.schedule({ ...least, key: "known" }, "default");
    const before = t.intake.accepted.length;
    const reply = await t.app.inject({ method, url, headers, ...(payload === undefined ? {} : { payload }) });
    expect(reply.statusCode).toBe(errorTable[code].status);
    expect(reply.headers["content-type"]).toBe("application/problem+json; charset=utf-8");
    expectProblem(reply.json(), { code, ...(field === undefined ? {} : { field }) }, name);
    t.intake.accepted.splice(0, before);
    nothingHappened();
  });
});
