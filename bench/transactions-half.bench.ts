import { killService, type RocketmqHandle, startAgain, startRocketmq } from "../scripts/services.mjs";
import { createRemotingAdmin } from "../src/adapters/rocketmq/remoting-admin.ts";
import { createRocketmqSink } from "../src/adapters/rocketmq/rocketmq-sink.ts";
import { aMessage, parts } from "../src/adapters/rocketmq/testing.ts";
import { createTransactionalProducer } from "../src/adapters/rocketmq/transactional-producer.ts";
import { createTopic } from "./lab/broker.ts";
import { body200 } from "./lab/fill.ts";
import type { Benchmark, Lab, Report } from "./lab/row.ts";
import { noteStarted } from "./lab/started.ts";
import { openTxWorld, type TxWorld, underLoad } from "./lab/tx-world.ts";
import { measureVisible, noteIn, transactionOf } from "./transactions-visible.bench.ts";

/**
 * RocketMQ's own transactional messages: send and commit of a half through our producer beside ordinary sends of one
 * message a call; what a half adds to a transaction; and from COMMIT to the consumer.
 *
 * From its first ended transaction on a 5.5.0 broker keeps a core busy. So the first two are measured on a broker of our
 * own that was started again and warmed up by plain sends; the others with that core gone, as in production, once halves
 * have been sent for a while: a broker that was still compiling itself took 190 transactions a second.
 */
const halvesWarmUpMs = 45_000;
const inFlight = 64;

export const benchmark: Benchmark = async (lab, report) => {
  const broker = await brokerOfOurOwn(lab);
  await native(lab, broker, report);
  const fresh = await broker.fresh();
  await costs(lab, fresh, report);
  await visible(lab, fresh, report);
  await broker.end();
};

type Fresh = RocketmqHandle & { readonly pid: number };
type OwnBroker = { fresh(): Promise<Fresh>; end(): Promise<void> };

const brokerOfOurOwn = async ({ quick, runDir }: Lab): Promise<OwnBroker> => {
  let handle = await startRocketmq({
    runDir,
    name: "half",
    config: { transactionTimeOut: 60_000 },
  });
  let isFresh = true;
  return {
    async fresh() {
      if (!isFresh && !quick) {
        await killService(handle);
        handle = await startAgain(handle);
      }
      isFresh = false;
      for (const pid of Object.values(handle.pids)) noteStarted(pid);
      const { topic } = await createTopic(handle.broker, "TX_WARM");
      const sink = createRocketmqSink({ endpoint: handle.endpoint, ...parts });
      await underLoad({ processes: {}, durationMs: quick ? 1_000 : 10_000, open: inFlight }, () =>
        sink.send(topic, [aMessage({ topic, body: body200 })]),
      );
      await sink.close();
      return { ...handle, pid: handle.pids.proxy! };
    },
    end: () => killService(handle),
  };
};

const native = async ({ quick }: Lab, broker: OwnBroker, report: Report): Promise<void> => {
  const durationMs = quick ? 2_000 : 15_000;
  const fresh = await broker.fresh();
  const { endpoint } = fresh;
  const plain = await createTopic(fresh.broker, "TX_NORMAL");
  const sink = createRocketmqSink({ endpoint, ...parts });
  const processes = { application: process.pid, rocketmq: fresh.pid };
  const normal = await underLoad({ processes, durationMs, open: inFlight }, async () => {
    const [result] = await sink.send(plain.topic, [aMessage({ topic: plain.topic, body: body200 })]);
    if (!result!.ok) throw new Error(result!.failure.detail);
  });
  await sink.close();
  report({
    id: "transactions/native normal",
    what: `an ordinary send, one message a call; ${inFlight} in flight`,
    durability: "none",
    ...normal.measured,
    numbers: normal.numbers,
  });

  // The first of its kind on this broker: it has ended no transaction yet.
  const { topic } = await createTopic(fresh.broker, "TX_HALF", "TRANSACTION");
  const producer = createTransactionalProducer({ endpoint, ...parts, check: async () => "commit" });
  await listening(producer, topic);
  const half = await underLoad({ processes, durationMs, open: inFlight }, async () => {
    const sent = await producer.send({ topic, keys: [], properties: new Map(), body: body200 });
    if (!sent.ok) throw new Error(sent.failure.detail);
    const ended = await producer.end(sent.half, "commit");
    if (!ended.ok) throw new Error(ended.detail);
  });
  await producer.close();
  report({
    id: "transactions/native half",
    what: `a half message, sent and committed; ${inFlight} in flight`,
    durability: "none",
    ...half.measured,
    numbers: half.numbers,
  });
};

const listening = async (producer: ReturnType<typeof createTransactionalProducer>, topic: string): Promise<void> => {
  producer.listen(topic);
  if (!(await producer.registered(topic, 10_000, new AbortController().signal)))
    throw new Error(`the proxy does not know the producer: ${producer.trouble(topic)}`);
};

const costs = async ({ quick, mysql }: Lab, fresh: Fresh, report: Report): Promise<void> => {
  for (const open of quick ? [16] : [16, 1, 64]) {
    await using world = await openTxWorld(mysql.url);
    const { topic, mq } = await halfProducer(world, fresh);
    const processes = { application: process.pid, database: mysql.pid, rocketmq: fresh.pid };
    const one = transactionOf(mq, topic);
    if (open === 16 && !quick) await underLoad({ processes: {}, durationMs: halvesWarmUpMs, open }, one);
    const load = await underLoad({ processes, durationMs: quick ? 1_000 : 8_000, open }, one, world);
    await mq.close();
    report({
      id: `transactions/half ${open}`,
      what: `INSERT, q.send (half message), COMMIT; ${open} open at a time`,
      durability: "always",
      ...load.measured,
      numbers: load.numbers,
    });
  }
};

const visible = async (lab: Lab, fresh: Fresh, report: Report): Promise<void> => {
  await using world = await openTxWorld(lab.mysql.url);
  const begunMs = new Map<string, number>();
  const { topic, group, mq } = await halfProducer(world, fresh, noteIn(begunMs));
  const one = transactionOf(mq, topic);
  const { endpoint, pid: brokerPid } = fresh;
  const durationMs = lab.quick ? 2_000 : 15_000;
  await measureVisible(lab, { endpoint, topic, group, one, begunMs, durationMs, warmUpMs: 5_000, brokerPid }, (row) =>
    report({
      id: "transactions/visible half",
      what: "commit → consumer by a half message",
      durability: "always",
      ...row,
    }),
  );
  await mq.close();
};

const halfProducer = async (
  world: TxWorld,
  { broker, endpoint }: RocketmqHandle,
  onCommitted: (result: unknown) => void = () => {},
) => {
  const { topic, group } = await createTopic(broker, "TX_HALVES", "TRANSACTION");
  await createRemotingAdmin({ broker, timers: parts.timers }).createGroup({ name: `${topic}_SEEN` });
  const mq = await world.producer({
    endpoint,
    onCommitted,
    mode: "half",
    half: { topics: [topic], admin: [broker], watchGroup: `${topic}_SEEN` },
  });
  return { topic, group, mq };
};
