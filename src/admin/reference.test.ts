import type { Static } from "typebox";
import { afterAll, beforeAll, describe, expect, expectTypeOf, it } from "vitest";
import { errorTable } from "../message/errors.ts";
import type {
  DeadAudit,
  DeadFilterInput,
  DeadGroupsReply,
  DeadList,
  DiscardReply,
  DiscardRequest,
  RedriveDryRunReply,
  RedriveList,
  RedriveOutcomes,
  RedriveReply,
  RedriveRequest,
} from "../wire/dead.ts";
import type {
  BatchItemReply,
  BatchReply,
  ConsumerGroupReply,
  ConsumerGroupRequest,
  DeletePolicyReply,
  HealthReply,
  MessageDetails,
  MessageReply,
  PolicyListReply,
  PolicyVersionsReply,
  Problem,
  PutPolicyReply,
  PutPolicyRequest,
  ReplayRetriesReply,
  ReplayRetriesRequest,
  RescheduleRequest,
  RetryBindingsReply,
  RetryPolicyInput,
  ScheduleRequest,
  SimulateRetriesReply,
  SimulateRetriesRequest,
  StatsReply,
} from "../wire/http.ts";
import type * as deads from "./dead-schemas.ts";
import type * as policies from "./policy-schemas.ts";
import type * as replies from "./reply-schemas.ts";
import type * as requests from "./request-schemas.ts";
import type * as retries from "./retry-schemas.ts";
import { buryIn, testApp } from "./testing.ts";

// The API reference is true: its shapes are the wire types, its routes exist and answer what it says.

describe("schemas", () => {
  it("are the wire types, field by field (checked by the compiler)", () => {
    expectTypeOf<Static<typeof requests.ScheduleRequestSchema>>().toEqualTypeOf<ScheduleRequest>();
    expectTypeOf<Static<typeof requests.RescheduleRequestSchema>>().toEqualTypeOf<RescheduleRequest>();
    expectTypeOf<Static<typeof replies.MessageReplySchema>>().toEqualTypeOf<MessageReply>();
    expectTypeOf<Static<typeof replies.MessageDetailsSchema>>().toEqualTypeOf<MessageDetails>();
    expectTypeOf<Static<typeof replies.ProblemSchema>>().toEqualTypeOf<Problem>();
    expectTypeOf<Static<typeof replies.BatchItemReplySchema>>().toEqualTypeOf<BatchItemReply>();
    expectTypeOf<Static<typeof replies.BatchReplySchema>>().toEqualTypeOf<BatchReply>();
    expectTypeOf<Static<typeof requests.ConsumerGroupRequestSchema>>().toEqualTypeOf<ConsumerGroupRequest>();
    expectTypeOf<Static<typeof replies.ConsumerGroupReplySchema>>().toEqualTypeOf<ConsumerGroupReply>();
    expectTypeOf<Static<typeof deads.DeadFilterSchema>>().toEqualTypeOf<DeadFilterInput>();
    expectTypeOf<Static<typeof deads.DeadListSchema>>().toEqualTypeOf<DeadList>();
    expectTypeOf<Static<typeof deads.DeadGroupsReplySchema>>().toEqualTypeOf<DeadGroupsReply>();
    expectTypeOf<Static<typeof deads.DiscardRequestSchema>>().toEqualTypeOf<DiscardRequest>();
    expectTypeOf<Static<typeof deads.DiscardReplySchema>>().toEqualTypeOf<DiscardReply>();
    expectTypeOf<Static<typeof deads.RedriveRequestSchema>>().toEqualTypeOf<RedriveRequest>();
    expectTypeOf<Static<typeof deads.RedriveReplySchema>>().toEqualTypeOf<RedriveReply>();
    expectTypeOf<Static<typeof deads.RedriveDryRunReplySchema>>().toEqualTypeOf<RedriveDryRunReply>();
    expectTypeOf<Static<typeof deads.RedriveListSchema>>().toEqualTypeOf<RedriveList>();
    expectTypeOf<Static<typeof deads.RedriveOutcomesSchema>>().toEqualTypeOf<RedriveOutcomes>();
    expectTypeOf<Static<typeof deads.DeadAuditSchema>>().toEqualTypeOf<DeadAudit>();
    expectTypeOf<Static<typeof replies.StatsReplySchema>>().toEqualTypeOf<StatsReply>();
    expectTypeOf<Static<typeof replies.HealthReplySchema>>().toEqualTypeOf<HealthReply>();
    expectTypeOf<Static<typeof retries.SimulateRetriesRequestSchema>>().toEqualTypeOf<SimulateRetriesRequest>();
    expectTypeOf<Static<typeof retries.SimulateRetriesReplySchema>>().toEqualTypeOf<SimulateRetriesReply>();
    expectTypeOf<Static<typeof retries.RetryPolicySchema>>().toEqualTypeOf<RetryPolicyInput>();
    expectTypeOf<Static<typeof policies.PutPolicyRequestSchema>>().toEqualTypeOf<PutPolicyRequest>();
    expectTypeOf<Static<typeof policies.PutPolicyReplySchema>>().branded.toEqualTypeOf<PutPolicyReply>();
    expectTypeOf<Static<typeof policies.PolicyListReplySchema>>().toEqualTypeOf<PolicyListReply>();
    expectTypeOf<Static<typeof policies.PolicyVersionsReplySchema>>().toEqualTypeOf<PolicyVersionsReply>();
    expectTypeOf<Static<typeof policies.DeletePolicyReplySchema>>().branded.toEqualTypeOf<DeletePolicyReply>();
    expectTypeOf<Static<typeof policies.RetryBindingsReplySchema>>().branded.toEqualTypeOf<RetryBindingsReply>();
    expectTypeOf<Static<typeof policies.ReplayRetriesRequestSchema>>().toEqualTypeOf<ReplayRetriesRequest>();
    expectTypeOf<Static<typeof policies.ReplayRetriesReplySchema>>().branded.toEqualTypeOf<ReplayRetriesReply>();
  });
});

type Operation = {
  operationId: string;
  summary: string;
  tags: string[];
  requestBody?: { content: Record<string, unknown> };
  responses: Record<string, { description: string; content: Record<string, { examples?: Record<string, unknown> }> }>;
};
type Reference = { paths: Record<string, Record<string, Operation>>; components: { schemas: Record<string, unknown> } };

const t = testApp();
let reference: Reference;
beforeAll(async () => {
  reference = (await t.app.inject("/openapi.json")).json();
});
afterAll(() => t.app.close());

const operations = () =>
  Object.entries(reference.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );

/** One good request for each operation; the key is made up by the test that schedules first. */
const good: Record<string, { query?: string; type?: string; payload?: string }> = {
  schedule: { type: "application/json", payload: '{"topic":"orders","body":"b","delay":"1h","key":"k"}' },
  scheduleBatch: { type: "application/json", payload: '[{"topic":"orders","body":"b","delay":"1h"}]' },
  getById: {},
  getByKey: { query: "?key=k" },
  rescheduleById: { type: "application/json", payload: '{"delay":"2h"}' },
  rescheduleByKey: { query: "?key=k", type: "application/json", payload: '{"delay":"2h"}' },
  cancelById: {},
  cancelByKey: { query: "?key=k" },
  listDead: {},
  groupDead: {},
  auditDead: {},
  getDead: {},
  discardDead: { type: "application/json", payload: '{"filter":{"topic":"none"},"reason":"r"}' },
  redrive: { type: "application/json", payload: '{"filter":{},"reason":"r"}' },
  listRedrives: {},
  getRedrive: {},
  pauseRedrive: {},
  resumeRedrive: {},
  cancelRedrive: {},
  redriveOutcomes: {},
  simulateRetries: { type: "application/json", payload: '{"preset":"default"}' },
  prepareConsumerGroup: { type: "application/json", payload: "{}" },
  listDependencies: {},
  showDependency: {},
  forceDependency: { type: "application/json", payload: '{"state":"open","for":"10m","reason":"maintenance"}' },
  syncConsumer: {
    type: "application/json",
    payload: '{"worker":"w","group":"g","topics":["orders"],"dependencies":[{"key":"k","succeeded":1,"failed":0}]}',
  },
  listPolicies: {},
  getPolicy: {},
  listPolicyVersions: {},
  putPolicy: { type: "application/json", payload: '{"policy":{},"why":"to try"}' },
  deletePolicy: {},
  simulatePolicy: { type: "application/json", payload: '{"error":{"status":503}}' },
  listBindings: {},
  bindPolicy: { type: "application/json", payload: '{"topic":"orders","policy":"default"}' },
  unbindPolicy: { query: "?topic=orders" },
  replayCandidate: {
    type: "application/json",
    payload: '{"candidate":{},"failures":[{"message":"m","atMs":1800000000000}]}',
  },
  replayPolicy: { type: "application/x-ndjson", payload: '{"message":"m","atMs":1800000000000}\n' },
  stats: {},
  live: {},
  ready: {},
  metrics: {},
};

describe("the reference", () => {
  it("lists exactly the routes that are tried here", () => {
    expect(
      operations()
        .map(({ operation }) => operation.operationId)
        .sort(),
    ).toEqual(Object.keys(good).sort());
  });

  it("tells the truth about a good request to each route", async () => {
    const scheduled = await t.app.inject({
      method: "POST",
      url: "/v1/messages",
      headers: { "content-type": "application/json" },
      payload: good.schedule!.payload!,
    });
    const { id } = scheduled.json<MessageReply>();
    const dead = await buryIn(t, "01a3185c-8a00-7c11-9d2e-5b7f0c3a91e4");
    const begun = await t.app.inject({ method: "POST", url: "/v1/redrives", payload: { filter: {}, reason: "r" } });
    const job = begun.json<RedriveReply>().id;
    const idFor = (path: string): string =>
      path.startsWith("/v1/redrives/") ? job : path.startsWith("/v1/dead/") ? dead : id;
    for (const name of ["mine", "unwanted"]) await t.policies.put(name, { policy: {} });
    for (const { path, method, operation } of operations()) {
      const { query = "", type, payload } = good[operation.operationId]!;
      const name = operation.operationId === "deletePolicy" ? "unwanted" : "mine";
      const reply = await t.app.inject({
        method: method.toUpperCase() as "GET",
        url:
          path
            .replace("{id}", idFor(path))
            .replace("{key}", "k")
            .replace("{group}", "billing")
            .replace("{name}", name) + query,
        ...(payload === undefined ? {} : { payload, headers: { "content-type": type! } }),
      });
      expect(reply.statusCode, operation.operationId).toBeLessThan(300);
      const documented = operation.responses[String(reply.statusCode)];
      const contentType = String(reply.headers["content-type"]).split(";")[0]!;
      expect(Object.keys(documented?.content ?? {}), operation.operationId).toContain(contentType);
    }
  });

  it("names every error that a route can answer, with words from the table and nothing that the table lacks", () => {
    for (const { operation } of operations()) {
      for (const [status, { content, description }] of Object.entries(operation.responses)) {
        const examples = content["application/problem+json"]?.examples ?? {};
        for (const code of Object.keys(examples)) {
          expect(errorTable).toHaveProperty(code);
          expect(String(errorTable[code as keyof typeof errorTable].status)).toBe(status);
          expect(description).toContain(errorTable[code as keyof typeof errorTable].title);
        }
      }
    }
  });

  it("has a summary, a tag and a described reply for everything", () => {
    for (const { operation } of operations()) {
      expect(operation.summary.length, operation.operationId).toBeGreaterThan(8);
      expect(operation.tags, operation.operationId).toHaveLength(1);
      for (const { description } of Object.values(operation.responses)) expect(description.length).toBeGreaterThan(5);
    }
  });

  it("points to nothing that it does not define", () => {
    const text = JSON.stringify(reference);
    const targets = [...text.matchAll(/"\$ref":"([^"]+)"/g)].map((match) => match[1]!);
    expect(targets.length).toBeGreaterThan(10);
    for (const target of targets) {
      expect(target).toMatch(/^#\/components\/schemas\//);
      expect(reference.components.schemas).toHaveProperty(target.split("/").at(-1)!);
    }
  });

  it("can be read as a page", async () => {
    const page = await t.app.inject("/docs");
    expect([page.statusCode, page.headers["content-type"]]).toEqual([200, "text/html; charset=utf-8"]);
    const script = await t.app.inject("/docs/static/swagger-initializer.js");
    expect(script.statusCode).toBe(200);
  });
});
