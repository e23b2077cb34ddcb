import { afterAll, describe, expect, it } from "vitest";
import { simulateRetries } from "../retry/simulate.ts";
import { testApp } from "./testing.ts";

const t = testApp();
afterAll(() => t.app.close());

const simulate = (payload: unknown) =>
  t.app.inject({
    method: "POST",
    url: "/v1/retry-policies/simulate",
    headers: { "content-type": "application/json" },
    payload: JSON.stringify(payload),
  });

describe("asking what a retry policy would do", () => {
  it.each([
    [{ preset: "rocketmq-ladder" }],
    [{ preset: "default", error: { class: "throttled", retryAfter: "1m" }, attempts: 1_000 }],
    [{ policy: { backoff: { kind: "decorrelated" }, rules: [{ when: { status: 503 }, action: "verify" }] } }],
    [{ policy: { limits: { deadline: 1_900_000_000_000 } }, firstFailedAt: "2030-03-17T17:00:00Z" }],
  ])("answers with every field of the explanation: %j", async (request) => {
    const reply = await simulate(request);
    expect(reply.statusCode).toBe(200);
    expect(reply.json()).toEqual(simulateRetries(request));
  });

  it("answers a wrong policy with all its mistakes, and the path of the first as the field", async () => {
    const reply = await simulate({ policy: { backoff: { base: 5, factor: 0 }, limits: { maxAttempts: "3" } } });
    expect([reply.statusCode, reply.headers["content-type"]]).toEqual([400, "application/problem+json; charset=utf-8"]);
    expect(reply.json()).toMatchObject({
      code: "invalid_field",
      field: "policy.backoff.base",
      detail:
        'policy.backoff.base is 5 ms, at least 10 ms are needed; numbers are milliseconds, perhaps "5s" was meant. ' +
        "policy.backoff.factor must be a number from 1 to 10. " +
        "policy.limits.maxAttempts must be a whole number from 1 to 1000.",
    });
  });

  it("reads no more than a policy needs, and touches no message", async () => {
    expect((await simulate({ preset: "x".repeat(200_000) })).json()).toMatchObject({ code: "request_too_large" });
    expect(t.intake.calls).toBe(0);
  });
});
