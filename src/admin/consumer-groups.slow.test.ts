import { afterAll, describe, expect, it } from "vitest";
import { testApp } from "./testing.ts";

const t = testApp();
afterAll(() => t.app.close());

const prepare = (group: string, payload: string) =>
  t.app.inject({
    method: "POST",
    url: `/v1/consumer-groups/${group}`,
    headers: { "content-type": "application/json" },
    payload,
  });

describe("making a consumer group ready", () => {
  it("answers how its topics are called", async () => {
    const reply = await prepare("billing", '{"ordered":true}');
    expect(reply.json()).toEqual({ group: "billing", retryTopic: "ESC_RETRY_billing", ingestTopic: "ESC_INGEST" });
  });

  it.each([
    ["a%20b", "{}", "invalid_field", "group"],
    ["x".repeat(118), "{}", "invalid_field", "group"],
    ["billing", '{"ordered":"yes"}', "invalid_field", "ordered"],
    ["billing", '{"orderd":true}', "unknown_field", "orderd"],
    ["billing", "[]", "invalid_request", undefined],
    ["billing", "nonsense", "invalid_json", undefined],
  ])("refuses %s %s", async (group, payload, code, field) => {
    const reply = await prepare(group, payload);
    expect(reply.statusCode).toBe(400);
    expect(reply.json()).toMatchObject({ code, ...(field === undefined ? {} : { field }) });
  });
});
