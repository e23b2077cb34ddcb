// Half mode when the application's clock is a day ahead of the database's, or a day behind, on a real MariaDB and the
// embedded broker: every wait that decides is on the database's clock, or the delay server's. And two instances whose
// clocks are two days apart, where one clears up what the other has left.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createPool, type Pool, type PoolConnection } from "mysql2/promise";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemRandom } from "../../src/adapters/system/system-random.ts";
import { machineClock, systemTimers } from "../../src/adapters/system/system-time.ts";
import { parseConfig } from "../../src/config.ts";
import { connect } from "../../src/connect.ts";
import { type MessageId, timeOfId } from "../../src/message/id.ts";
import { silentLog } from "../../src/runtime/log.ts";
import { Metrics } from "../../src/runtime/metrics.ts";
import { Service } from "../../src/service.ts";
import { type RunningBroker, startBroker } from "../../src/start-broker.ts";
import { createTxProducer, fromMysql2, type TxHalfOptions, type TxProducer } from "../../src/tx-producer.ts";
import { newTopic, type Witness, witness } from "./half-world.ts";
import { type Lab, openLab, pauseMs, uniqueName, until } from "./lab.ts";
import { withoutSkews, withSkew } from "./skewed-clock.ts";

const dayMs = 86_400_000;
const skews = [
  { clock: "a day ahead", skewMs: dayMs },
  { clock: "a day behind", skewMs: -dayMs },
] as const;
const pairs = skews.flatMap((left) => skews.map((clearing) => ({ left, clearing })));

/** One broker asks twice a second, and there is no backstop; the other does not ask within a test, and there is one. */
const turns = { turnMs: 300, commitWithinMs: 200, backstopLatestMs: 120_000, keepSettledMs: 3_600_000 };
const checked = { ...turns, backstopAfterMs: 60_000 };
const unchecked = { ...turns, backstopAfterMs: 2_500 };

let lab: Lab;
let asking: RunningBroker;
let silent: RunningBroker;
beforeAll(async () => {
  lab = await openLab();
  asking = await startBroker({ transactionCheckMs: 500 });
  silent = await startBroker({ transactionCheckMs: 600_000 });
});
afterAll(async () => {
  withoutSkews();
  await asking?.stop();
  await silent?.stop();
  await lab?.[Symbol.asyncDispose]();
});

type World = {
  readonly topic: string;
  readonly watching: Witness;
  /** An instance of the application under this clock. */
  start(skewMs: number, half?: Partial<TxHalfOptions>): Promise<Instance>;
};
type Instance = { readonly mq: TxProducer<PoolConnection>; under<T>(work: () => Promise<T>): Promise<T> };

const world = async (
  broker: RunningBroker,
  timing: NonNullable<TxHalfOptions["timing"]>,
  work: (world: World) => Promise<void>,
  { url }: Lab = lab,
): Promise<void> => {
  const topic = await newTopic(broker.endpoint);
  const watching = await witness(broker.endpoint, topic);
  const started: { readonly mq: TxProducer<PoolConnection>; readonly pool: Pool }[] = [];
  try {
    await work({
      topic,
      watching,
      async start(skewMs, half = {}) {
        // Of its own: each holds three connections, and asks for more.
        const pool = createPool({ uri: url, connectionLimit: 8 });
        const mq = await withSkew(skewMs, () =>
          createTxProducer({
            rocketmq: { endpoint: broker.endpoint },
            db: fromMysql2(pool),
            relay: false,
            mode: "half",
            half: { topics: [topic], admin: [broker.endpoint], watchGroup: `${topic}_SEEN`, timing, ...half },
          }),
        );
        started.push({ mq, pool });
        return { mq, under: (act) => withSkew(skewMs, act) };
      },
    });
  } finally {
    for (const { mq, pool } of started) {
      await mq.close();
      await pool.end();
    }
    await watching.stop();
  }
};

/** How a transaction ends, and what its caller is told. Unanswered ones are cleared up by a check, or the backstop. */
const told = {
  committed: undefined,
  "rolled back": "no",
  "committed, unanswered": "commit_outcome_unknown",
  "rolled back, unanswered": "commit_outcome_unknown",
} as const;
type Ending = keyof typeof told;

/** One transaction with one message, whose body is how it ends. */
const transact = ({ mq, under }: Instance, topic: string, ending: Ending): Promise<string> =>
  under(async () => {
    let txId = "";
    const work = mq.transaction(async (tx, q) => {
      txId = q.txId;
      await tx.query("INSERT INTO orders VALUES (?, NULL)", [txId]);
      await q.send({ topic, body: ending });
      if (ending === "committed") return;
      if (ending === "rolled back") throw new Error(told[ending]);
      const commit = tx.commit.bind(tx);
      tx.commit = async () => {
        await (ending === "committed, unanswered" ? commit() : tx.rollback());
        throw new Error("the line is broken");
      };
    });
    const error = await work.then(
      () => undefined,
      (thrown: Error & { code?: string }) => thrown.code ?? thrown.message,
    );
    expect(error).toBe(told[ending]);
    return txId;
  });

const leave = async (app: Instance, topic: string) => ({
  left: await transact(app, topic, "committed, unanswered"),
  ghost: await transact(app, topic, "rolled back, unanswered"),
});
const texts = ({ seen }: Witness): string[] => seen.map(({ text }) => text).toSorted();
const isNearZero = (ms: number): boolean => Math.abs(ms) < dayMs / 2;

describe.concurrent("an application whose clock is a day ahead or a day behind", () => {
  const eachSkew = (work: (skew: (typeof skews)[number]) => Promise<void>) => Promise.all(skews.map(work));
  const eachPair = (work: (pair: (typeof pairs)[number]) => Promise<void>) => Promise.all(pairs.map(work));

  test("committed is visible once, rolled back never; status says so, and nothing settled is forgotten early", async () => {
    await eachSkew(({ clock, skewMs }) =>
      world(asking, checked, async ({ topic, watching, start }) => {
        const app = await start(skewMs);
        const txIds: string[] = [];
        for (const ending of Object.keys(told) as Ending[]) txIds.push(await transact(app, topic, ending));
        expect(isNearZero(timeOfId(txIds[0] as MessageId) - skewMs - Date.now()), clock).toBe(true);
        const states = (fence: boolean) =>
          app.under(() => Promise.all(txIds.map(async (txId) => (await app.mq.status(txId, { fence })).state)));
        const wanted = ["visible", "rolled-back", "visible", "rolled-back"];
        await until(`settled, ${clock}`, async () => (await states(false)).join() === wanted.join());
        expect(await states(true), clock).toEqual(wanted);
        // Checks go on, and the sweep comes by twice; it takes what is older than an hour.
        await pauseMs(2_500);
        expect(texts(watching), clock).toEqual(["committed", "committed, unanswered"]);
        expect(await states(false), clock).toEqual(wanted);
      }),
    );
  });

  test("what is settled is forgotten when it is old by the database's clock", async () => {
    await eachSkew(async ({ clock, skewMs }) => {
      await using own = await openLab();
      const timing = { ...checked, keepSettledMs: 1_500 };
      const forgets = async ({ topic, start }: World) => {
        const txId = await transact(await start(skewMs), topic, "committed");
        const rows = async () => (await own.rows("SELECT 1 FROM escapement_half WHERE tx_id = ?", [txId])).length;
        expect(await rows(), clock).toBe(1);
        await until(`forgotten, ${clock}`, async () => (await rows()) === 0);
      };
      await world(asking, timing, forgets, own);
    });
  });

  test("what it has left behind is settled by checks, its own or of an instance two days off", async () => {
    await eachPair(({ left: { skewMs, clock }, clearing }) =>
      world(asking, checked, async ({ topic, watching, start }) => {
        const app = await start(skewMs);
        const answering = clearing.skewMs === skewMs ? app : await start(clearing.skewMs);
        const { left, ghost } = await leave(app, topic);
        if (answering !== app) await app.mq.close();
        const state = (txId: string) => answering.under(async () => (await answering.mq.status(txId)).state);
        const what = `settled, ${clock}, by one ${clearing.clock}`;
        await until(what, async () => (await state(left)) === "visible" && (await state(ghost)) === "rolled-back");
        await pauseMs(1_500);
        expect(texts(watching), what).toEqual(["committed, unanswered"]);
      }),
    );
  });

  test("what no broker asks about is sent by a backstop, its own or of one two days off, not at once and not in a day", async () => {
    await eachPair(({ left: { skewMs, clock }, clearing }) =>
      world(silent, unchecked, async ({ topic, watching, start }) => {
        const app = await start(skewMs);
        const sending = clearing.skewMs === skewMs ? app : await start(clearing.skewMs);
        const beganMs = Date.now();
        await leave(app, topic);
        if (sending !== app) await app.mq.close();
        const { atMs } = await watching.until("committed, unanswered", 15_000);
        const what = `${clock}, by one ${clearing.clock}`;
        expect(atMs - beganMs, what).toBeGreaterThanOrEqual(unchecked.backstopAfterMs);
        await pauseMs(2_000); // more than a turn, and the doubled one
        expect(texts(watching), what).toEqual(["committed, unanswered"]);
      }),
    );
  });

  test("a delay counts on the delay server's clock, and an instant is an instant", async () => {
    const ingest = uniqueName("IN");
    const folder = mkdtempSync(join(tmpdir(), "escapement-skew-"));
    const settings = {
      ROCKETMQ_ENDPOINT: asking.endpoint,
      ROCKETMQ_ADMIN: asking.endpoint,
      DATA_DIR: folder,
      INGEST_TOPIC: ingest,
      INGEST_GROUP: `${ingest}_G`,
    };
    const machine = { log: silentLog, machine: machineClock, timers: systemTimers, random: systemRandom };
    const config = parseConfig(settings, { pid: process.pid, terminal: false });
    const server = new Service(await connect(config, { ...machine, metrics: new Metrics() }));
    await server.start();
    try {
      await eachSkew(({ clock, skewMs }) =>
        world(asking, checked, async ({ start }) => {
          const later = await newTopic(asking.endpoint, "later", "NORMAL");
          const received = await witness(asking.endpoint, later);
          const halves = { delayedTopics: [later], ingestTopic: `${ingest}_TX`, watchGroup: `${ingest}_SEEN` };
          const { mq, under } = await start(skewMs, halves);
          const beganMs = Date.now();
          const deliverAt = beganMs + 3_000;
          await under(() =>
            mq.transaction(async (_, q) => {
              await q.send({ topic: later, body: "relative", delay: "2s" });
              await q.send({ topic: later, body: "absolute", deliverAt });
            }),
          );
          const relative = await received.until("relative", 10_000);
          const absolute = await received.until("absolute", 10_000);
          await received.stop();
          expect(relative.atMs, clock).toBeGreaterThanOrEqual(beganMs + 2_000);
          expect(absolute.atMs, clock).toBeGreaterThanOrEqual(deliverAt);
          expect(texts(received), clock).toEqual(["absolute", "relative"]);
        }),
      );
    } finally {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
