import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, expect, it } from "vitest";
import { pauseMs } from "../../src/adapters/rocketmq/testing.ts";
import { type Handler, PermanentError, TransientError } from "../../src/start-consumer.ts";
import type { DeadAudit, DeadGroupsReply, DeadList, RedriveOutcomes, RedriveReply } from "../../src/wire/dead.ts";
import { Embedded } from "./embedded.ts";
import { aSecond, Bench } from "./retrying.ts";

/** From a handler's last word to the dead, and back through the consumer: a real server, broker, store and consumer. */
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

const get = async <T>(path: string): Promise<T> => {
  const reply = await fetch(server.url + path);
  expect(reply.ok, `${path} ${reply.status}`).toBe(true);
  return (await reply.json()) as T;
};

const post = async <T>(path: string, body: object): Promise<T> => {
  const headers = { "content-type": "application/json" };
  const reply = await fetch(server.url + path, { method: "POST", headers, body: JSON.stringify(body) });
  const text = await reply.text();
  expect(reply.ok, `${path} ${reply.status} ${text}`).toBe(true);
  return JSON.parse(text) as T;
};

const until = async <T>(what: string, withinMs: number, look: () => Promise<T>, isSo: (seen: T) => boolean) => {
  const endMs = performance.now() + withinMs;
  for (;;) {
    const seen = await look();
    if (isSo(seen)) return seen;
    if (performance.now() > endMs) throw new Error(`not within ${withinMs} ms: ${what}; last ${JSON.stringify(seen)}`);
    await pauseMs(200);
  }
};

const outcomesOf = async (id: string) => {
  const outcomes = new Map<string, string>();
  for (let cursor = ""; ; ) {
    const page = await get<RedriveOutcomes>(`/v1/redrives/${id}/outcomes${cursor}`);
    for (const item of page.items) outcomes.set(item.id, item.outcome);
    if (page.cursor === undefined) return outcomes;
    cursor = `?cursor=${page.cursor}`;
  }
};

const isAt = (id: string, ...states: string[]) =>
  until(
    `redrive is ${states.join(" or ")}`,
    40_000,
    () => get<RedriveReply>(`/v1/redrives/${id}`),
    ({ state }) => states.includes(state),
  );

/** Refuses what is closed as long as the account is, and each in its own way. */
const accounts = () => {
  const seen: { body: string; attempt: number }[] = [];
  const account = { isOpen: false };
  const handler: Handler<Buffer> = ({ body }, { attempt }) => {
    const text = body.toString();
    seen.push({ body: text, attempt });
    if (text.startsWith("unreadable")) throw new PermanentError("not a payment", { code: "unreadable" });
    if (!account.isOpen) throw new PermanentError(`account of ${text} is closed`, { code: "account_closed" });
  };
  return { seen, account, handler };
};

const numbered = (prefix: string, count: number) => Array.from({ length: count }, (_, i) => `${prefix}-${i}`);

it("what died of one cause is found by its fingerprint, brought back, and each success is known", async () => {
  const { seen, account, handler } = accounts();
  const [topic, group] = [unique("payments"), unique("paying")];
  const consumer = await bench.consume({ topic, group }, handler);
  const payments = numbered("payment", 12);
  await bench.send(topic, ...payments, "unreadable-1", "unreadable-2");
  const dead = await until(
    "all are dead",
    30_000,
    () => get<DeadList>(`/v1/dead?group=${group}`),
    ({ items }) => items.length === 14,
  );
  expect(new Set(dead.items.map((item) => item.retry?.originTopic))).toEqual(new Set([topic]));
  const { groups } = await get<DeadGroupsReply>(`/v1/dead/groups?group=${group}`);
  expect(groups.map(({ topic: of, code, count }) => [of, code, count]).sort()).toEqual([
    [topic, "permanent", 12],
    [topic, "permanent", 2],
  ]);
  const closed = groups.find(({ count }) => count === 12)!;
  expect(closed.sample.text).toMatch(/account of payment-\d+ is closed/);
  const filter = { group, fingerprint: closed.fingerprint! };
  expect((await get<DeadList>(`/v1/dead?group=${group}&fingerprint=${closed.fingerprint}`)).items).toHaveLength(12);

  account.isOpen = true;
  const { matched } = await post<{ matched: number }>("/v1/redrives", { filter, dryRun: true });
  expect(matched).toBe(12);
  const wish = { filter, canary: 3, canaryWait: "20s", ramp: 0, rate: 200, outcomeWait: "30s" };
  const job = await post<RedriveReply>("/v1/redrives", { ...wish, reason: "the accounts are open", by: "ops" });
  const finished = await isAt(job.id, "finished", "stopped");
  expect(finished).toMatchObject({ state: "finished", counts: { sent: 12, succeeded: 12, deadAgain: 0, pending: 0 } });
  const ids = dead.items.filter((item) => item.retry?.history.at(-1)?.code === "account_closed").map(({ id }) => id);
  expect(await outcomesOf(job.id)).toEqual(new Map(ids.map((id) => [id, "succeeded"])));

  // The handler saw each twice, both times as a first attempt; the others stay where they were.
  expect(
    seen
      .filter(({ body }) => body.startsWith("payment"))
      .map(({ body, attempt }) => `${body}:${attempt}`)
      .sort(),
  ).toEqual(payments.flatMap((body) => [`${body}:1`, `${body}:1`]).sort());
  expect(consumer.stats()).toMatchObject({ succeeded: 12, dead: 14, crashes: 0, held: 0 });
  const left = await get<DeadList>(`/v1/dead?group=${group}`);
  expect(left.items.map((item) => item.retry?.history.at(-1)?.code)).toEqual(["unreadable", "unreadable"]);
  const audit = await get<DeadAudit>("/v1/dead/audit");
  expect(audit.items.filter(({ redrive }) => redrive === job.id)).toMatchObject([
    { action: "redrive", by: "ops", reason: "the accounts are open" },
  ]);
}, 120_000);

it("RT-22 a redrive while the source still fails stops itself after its canary, and goes on when that is mended", async () => {
  const { seen, account, handler } = accounts();
  const [topic, group] = [unique("payments"), unique("paying")];
  await bench.consume({ topic, group }, handler);
  await bench.send(topic, ...numbered("payment", 30));
  const died = () => get<DeadList>(`/v1/dead?group=${group}&limit=100`);
  const before = await until("all are dead", 30_000, died, ({ items }) => items.length === 30);

  const wish = { filter: { group }, canary: 5, canaryWait: "30s", ramp: 0, rate: 200, outcomeWait: "30s" };
  const job = await post<RedriveReply>("/v1/redrives", { ...wish, reason: "too early", by: "ops" });
  const stopped = await isAt(job.id, "stopped", "finished");
  expect(stopped).toMatchObject({ state: "stopped", counts: { sent: 5, succeeded: 0, deadAgain: 5, pending: 0 } });
  expect(stopped.note).toMatch(/canary.* 5 of 5 failed/);
  expect(seen).toHaveLength(35);
  const after = await until("the canary is dead again", 10_000, died, ({ items }) => items.length === 30);
  const origins = ({ items }: DeadList) => items.map((item) => item.retry?.originId).sort();
  expect(origins(after)).toEqual(origins(before));
  expect(after.items.filter((item) => item.retry?.replays === 1)).toHaveLength(5);

  account.isOpen = true;
  await post(`/v1/redrives/${job.id}/resume`, { reason: "opened now", by: "ops" });
  const finished = await isAt(job.id, "finished");
  expect(finished.counts).toMatchObject({ sent: 30, succeeded: 25, deadAgain: 5, pending: 0 });
  const outcomes = [...(await outcomesOf(job.id)).values()];
  expect(outcomes.filter((outcome) => outcome === "succeeded")).toHaveLength(25);
  expect(outcomes.filter((outcome) => outcome === "dead-again")).toHaveLength(5);
  expect((await died()).items).toHaveLength(5);
  const audit = await get<DeadAudit>("/v1/dead/audit");
  const ofJob = audit.items.filter(({ redrive }) => redrive === job.id);
  expect(ofJob.map(({ action, by, reason }) => [action, by, reason])).toEqual([
    ["resume", "ops", "opened now"],
    ["stop", "escapement", stopped.note],
    ["redrive", "ops", "too early"],
  ]);
}, 120_000);

it("a redrive in full flight stops itself when the source breaks, and what only fails is no success", async () => {
  const topic = unique("payments");
  const group = unique("paying");
  let phase: "closed" | "canary" | "broken" = "closed";
  let calls = 0;
  await bench.consume({ topic, group, policy: { ...aSecond, limits: { maxAttempts: 40 } } }, () => {
    if (phase === "closed") throw new PermanentError("closed", { code: "account_closed" });
    if (phase === "canary" && ++calls > 10) phase = "broken";
    if (phase === "broken") throw new TransientError("down again");
  });
  await bench.send(topic, ...numbered("payment", 200));
  const died = () => get<DeadList>(`/v1/dead?group=${group}&limit=1000`);
  await until("all are dead", 40_000, died, ({ items }) => items.length === 200);
  phase = "canary";
  const wish = { filter: { group }, canary: 5, canaryWait: "30s", ramp: 0, rate: 20, outcomeWait: "30s" };
  const job = await post<RedriveReply>("/v1/redrives", { ...wish, reason: "open", by: "ops" });
  const stopped = await isAt(job.id, "stopped", "finished");
  expect(stopped.state).toBe("stopped");
  expect(stopped.note).toMatch(/of the last outcomes .* failed/);
  // At 20 a second: 20 outcomes must be known, and their news takes some seconds.
  expect(stopped.counts.sent).toBeLessThan(180);
  expect((await died()).items.length).toBeGreaterThanOrEqual(200 - stopped.counts.sent);
}, 120_000);
