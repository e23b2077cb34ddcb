import { createRocketmqSink } from "../../src/adapters/rocketmq/rocketmq-sink.ts";
import { aMessage, eventually, parts, pauseMs } from "../../src/adapters/rocketmq/testing.ts";
import { silentLog } from "../../src/runtime/log.ts";
import { EscapementClient } from "../../src/sdk/client.ts";
import {
  type Handler,
  type HandlerContext,
  PermanentError,
  type RunningConsumer,
  type StartConsumerOptions,
  startConsumer,
} from "../../src/start-consumer.ts";

/**
 * What a retrying consumer does with a real broker and a real service, as functions that answer what happened: the
 * tests say what should have, once for RocketMQ and once for the embedded broker.
 */
export type Place = {
  readonly endpoint: string;
  readonly url: string;
  readonly topic: (type?: "NORMAL" | "FIFO") => Promise<string>;
  readonly group: () => string;
};

export const aSecond = { backoff: { kind: "fixed", delay: "1s", jitter: "none" }, limits: { maxAttempts: 4 } } as const;

export class Bench implements AsyncDisposable {
  readonly place: Place;
  readonly #sink;
  readonly #consumers: RunningConsumer[] = [];

  constructor(place: Place) {
    this.place = place;
    this.#sink = createRocketmqSink({ endpoint: place.endpoint, ...parts });
  }

  async send(
    topic: string,
    ...bodies: (string | { body: string; tag?: string; messageGroup?: string })[]
  ): Promise<void> {
    for (const one of bodies) {
      const { body, ...more } = typeof one === "string" ? { body: one } : one;
      const properties = new Map([["colour", "grün"]]);
      const message = aMessage({ topic, body: Buffer.from(body), keys: [`k-${body}`], properties, ...more });
      const [result] = await this.#sink.send(topic, [message]);
      if (!result?.ok) throw new Error(`not sent: ${result?.failure.detail}`);
    }
  }

  async consume(
    options: Partial<StartConsumerOptions<Buffer>> & { topic: string | string[]; group: string },
    handler: Handler<Buffer>,
  ) {
    const { endpoint, url } = this.place;
    const consumer = await startConsumer({ endpoint, url, policy: aSecond, log: silentLog, ...options }, handler);
    this.#consumers.push(consumer);
    // A new group begins with what comes after its first poll.
    await pauseMs(1_500);
    return consumer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#consumers.map((consumer) => consumer.stop()));
    await this.#sink.close();
  }
}

export type Seen = { body: string; attempt: number; atMs: number; message: HandlerContext<Buffer>["message"] };

/** Fails each message by what its body says: `fail-2` twice, `never` for good. */
export const failuresByBody =
  (seen: Seen[]): Handler<Buffer> =>
  (message, { attempt }) => {
    const body = message.body.toString();
    seen.push({ body, attempt, atMs: performance.now(), message });
    if (body === "never") throw new PermanentError("not in this world", { code: "no_such_thing" });
    const times = Number(/^fail-(\d+)/.exec(body)?.[1] ?? 0);
    if (attempt <= times) throw Object.assign(new Error("down"), { status: 503 });
  };

export const retried = async (bench: Bench) => {
  const [first, second] = [await bench.place.topic(), await bench.place.topic()];
  const group = bench.place.group();
  const seen: Seen[] = [];
  const consumer = await bench.consume({ topic: [first, second], group }, failuresByBody(seen));
  const others: string[] = [];
  await bench.consume({ topic: first, group: bench.place.group() }, ({ body }) => void others.push(body.toString()));
  await bench.send(first, "fail-2", "fine", "never", "fail-9");
  await bench.send(second, "fail-1");
  await eventually("all have succeeded or are dead", 60_000, () => {
    const { succeeded, dead } = consumer.stats();
    return succeeded >= 3 && dead >= 2;
  });
  const client = new EscapementClient({ url: bench.place.url });
  const dead: { body: string; code: string | undefined; topic: string | undefined; retry: string | undefined }[] = [];
  await eventuallyAsync("the dead are listed", 20_000, async () => {
    dead.length = 0;
    const page = (await (await fetch(`${bench.place.url}/v1/dead`)).json()) as {
      items: { id: string; reason?: { code: string } }[];
    };
    for (const { id, reason } of page.items) {
      const { topic, properties, body } = await client.get(id, { body: true });
      if (topic !== `ESC_RETRY_${group}`) continue;
      dead.push({ body: Buffer.from(body ?? []).toString(), code: reason?.code, topic, retry: properties?.ESC_RETRY });
    }
    return dead.length >= 2;
  });
  client.close();
  await pauseMs(500);
  return { seen, others, dead, stats: consumer.stats(), group, first, second };
};

const eventuallyAsync = async (what: string, withinMs: number, condition: () => Promise<boolean>): Promise<void> => {
  const endMs = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`not within ${withinMs} ms: ${what}`);
    await pauseMs(100);
  }
};

/** A handler that takes longer than a message is invisible. */
export const outlived = async (bench: Bench) => {
  const topic = await bench.place.topic();
  let runs = 0;
  let done = 0;
  const consumer = await bench.consume({ topic, group: bench.place.group(), invisible: "10s" }, async () => {
    runs++;
    await pauseMs(16_000);
    done++;
  });
  await bench.send(topic, "slow");
  await eventually("it is done", 40_000, () => done > 0);
  await pauseMs(12_000);
  return { runs, stats: consumer.stats() };
};

/** Ordered, with a head that fails twice. */
export const blocked = async (bench: Bench) => {
  const topic = await bench.place.topic("FIFO");
  const seen: Seen[] = [];
  const consumer = await bench.consume(
    { topic, group: bench.place.group(), order: "block-key", invisible: "10s" },
    failuresByBody(seen),
  );
  const of = (body: string, messageGroup: string) => ({ body, messageGroup });
  await bench.send(topic, of("fail-2", "a"), of("a2", "a"), of("a3", "a"), of("b1", "b"));
  await eventually("all have succeeded", 60_000, () => consumer.stats().succeeded >= 4);
  return { seen, stats: consumer.stats() };
};
