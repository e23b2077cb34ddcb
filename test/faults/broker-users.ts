import { setTimeout as pause } from "node:timers/promises";
import { type ILogger, type MessageView, Producer, SimpleConsumer } from "rocketmq-client-nodejs";
import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import { createRemotingAdmin } from "../../src/adapters/rocketmq/remoting-admin.ts";
import { systemTimers } from "../../src/adapters/system/system-time.ts";
import { surviving } from "../surviving-client.ts";
import type { BrokerEntry, Kind } from "./broker-entries.ts";
import { judgeBroker, openMessages } from "./broker-verdict.ts";
import { eventually, type Lab } from "./lab.ts";
import { fingerprint, serialProperty } from "./load-plan.ts";
import type { SeededRandom } from "./seeded-random.ts";

/**
 * Programs that use the embedded broker as they would use a RocketMQ: official clients that send all kinds of messages,
 * receive them, acknowledge most, and write down what they saw (broker-entries.ts). After a failure a client is replaced
 * by a new one, as the official ones do not always find back.
 */
export const usersInvisibleMs = 2_500;
/** Deliveries before a hopeless message is a dead letter. */
const attemptsMax = 3;
const requestMs = 4_000;
const startMaxMs = 4_000;
const orderedLanes = 6;
const freeLanes = 8;
const freePauseMs = 60;
/** A head that is not acknowledged holds up its group for its invisible time; the group must catch up meanwhile. */
const orderedPauseMs = 500;
/** Of first deliveries. */
const unackedShare = 0.08;

/** Without a logger of ours the client writes files; without `debug` its transactions throw. */
const quiet: ILogger = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} };

export class BrokerUsers {
  readonly entries: BrokerEntry[] = [];
  readonly #lab: Lab;
  readonly #random: SeededRandom;
  /** Of the plain messages; its consumers' group has the same name and `_g`. */
  readonly topic: string;
  readonly #group: string;
  readonly #working: Promise<void>[] = [];
  readonly #kinds = new Map<number, Kind>();
  #serial = 0;
  #sending = true;
  #receiving = true;

  private constructor(lab: Lab) {
    this.#lab = lab;
    this.#random = lab.random.fork();
    this.topic = `${lab.topics.normal}_direct`;
    this.#group = `${this.topic}_g`;
  }

  static async start(lab: Lab): Promise<BrokerUsers> {
    const users = new BrokerUsers(lab);
    const admin = createRemotingAdmin({ broker: lab.endpoint, timers: systemTimers });
    await admin.createGroup({ name: users.#group, retryMaxTimes: attemptsMax - 1 });
    for (let lane = 0; lane < orderedLanes; lane++) users.#working.push(users.#send([], `lane-${lane}`));
    for (let lane = 0; lane < freeLanes; lane++) users.#working.push(users.#send(freeKinds));
    for (const topic of users.#topics) users.#working.push(users.#receive(topic), users.#receive(topic));
    users.#working.push(users.#receive(users.#fifoTopic), users.#receive(users.#deadTopic));
    return users;
  }

  killed(): void {
    this.entries.push({ event: "killed", atMs: Date.now() });
  }

  /** Ends the sending, waits for what is under way, and judges. */
  async finish(withinMs = 90_000): Promise<{ readonly failures: string[]; readonly notes: Record<string, number> }> {
    this.#sending = false;
    await eventually(withinMs, async () => {
      await pause(200);
      return openMessages(this.entries, Date.now(), 2 * usersInvisibleMs) === 0;
    });
    await this.stop();
    const { findings, ...numbers } = judgeBroker(this.entries, {
      invisibleMs: usersInvisibleMs,
      clockAhead: this.#lab.clockAhead,
    });
    const failures = findings.slice(0, shownMax).map(({ invariant, serial, text }) => {
      const lines = this.entries.filter((entry) => "serial" in entry && entry.serial === serial);
      return `${invariant}: message ${serial}: ${text}${lines.map((line) => `\n      ${JSON.stringify(line)}`).join("")}`;
    });
    if (findings.length > shownMax) failures.push(`… and ${findings.length - shownMax} more broken promises`);
    if (numbers.stored < storedMin) failures.push(`void: only ${numbers.stored} messages were stored directly`);
    return {
      failures,
      notes: Object.fromEntries(Object.entries(numbers).map(([name, value]) => [`broker.${name}`, value])),
    };
  }

  async stop(): Promise<void> {
    this.#sending = false;
    this.#receiving = false;
    await Promise.all(this.#working);
  }

  get #topics(): readonly string[] {
    return [this.topic, `${this.topic}_tx`];
  }

  get #fifoTopic(): string {
    return `${this.topic}_fifo`;
  }

  get #deadTopic(): string {
    return `%DLQ%${this.#group}`;
  }

  // --- sending ----------------------------------------------------------------------------------------------------

  /** One message at a time, so that a group's order is known. */
  async #send(kinds: readonly Kind[], group?: string): Promise<void> {
    const client = new Renewed(() => this.#producer());
    while (this.#sending) {
      const kind = group === undefined ? kinds[this.#random.between(0, kinds.length - 1)]! : "fifo";
      await client.use((producer) => this.#sendOne(producer, kind, group));
      await pause(group === undefined ? freePauseMs : orderedPauseMs);
    }
    // Open transactions are asked about until the end.
    while (this.#receiving) await pause(100);
    await client.close();
  }

  async #producer(): Promise<Producer> {
    const check = async ({ properties }: MessageView) => {
      const { COMMIT, ROLLBACK } = definitions.TransactionResolution;
      return this.#kinds.get(Number(properties.get(serialProperty))) === "committed" ? COMMIT : ROLLBACK;
    };
    const producer = new Producer({
      endpoints: this.#lab.endpoint,
      namespace: "",
      topics: [...this.#topics, this.#fifoTopic],
      maxAttempts: 1,
      requestTimeout: requestMs,
      logger: quiet,
      checker: { check },
    });
    return started(surviving(producer));
  }

  async #sendOne(producer: Producer, kind: Kind, group: string | undefined): Promise<void> {
    const serial = this.#serial++;
    this.#kinds.set(serial, kind);
    const body = Buffer.concat([Buffer.from(`${serial}\0`), this.#random.bytes(this.#random.between(0, 300))]);
    const properties = new Map([[serialProperty, String(serial)]]);
    const atMs = Date.now();
    const waits = kind === "delayed" || kind === "recalled";
    const dueMs = waits ? atMs + this.#random.between(300, 2_500) : atMs;
    this.entries.push({ event: "sent", serial, atMs, kind, group, dueMs, crc: fingerprint(body, properties) });
    const isTransaction = kind === "committed" || kind === "rolled-back";
    const message = {
      topic: isTransaction ? this.#topics[1]! : group === undefined ? this.topic : this.#fifoTopic,
      body,
      properties,
      ...(group === undefined ? undefined : { messageGroup: group }),
      ...(waits ? { deliveryTimestamp: new Date(dueMs) } : undefined),
    };
    const stored = (): void => void this.entries.push({ event: "stored", serial, atMs: Date.now() });
    if (isTransaction) {
      const transaction = producer.beginTransaction();
      await producer.send(message, transaction);
      await (kind === "committed" ? transaction.commit() : transaction.rollback());
      // Before this answer it is not certain: when all checks fall into times without a producer, it is set aside.
      stored();
      return;
    }
    const { recallHandle } = await producer.send(message);
    if (kind !== "recalled" || !recallHandle) return stored();
    // Without an answer it may be recalled or not, and both are right; so it never counts as stored.
    await producer.recallMessage(message.topic, recallHandle).then(
      () => this.entries.push({ event: "recalled", serial, atMs: Date.now() }),
      () => {}, // too late, or the broker is away
    );
  }

  // --- receiving --------------------------------------------------------------------------------------------------

  async #receive(topic: string): Promise<void> {
    const isDeadLetter = topic === this.#deadTopic;
    const group = isDeadLetter ? `${this.#group}_dead` : this.#group;
    const client = new Renewed(() => this.#consumer(topic, group));
    while (this.#receiving) {
      await client.use(async (consumer) => {
        const messages = await consumer.receive(16, usersInvisibleMs);
        const atMs = Date.now();
        const taken = messages.flatMap((message) => {
          const serial = Number(message.properties.get(serialProperty));
          const { offset = -1, deliveryAttempt: attempt = 0 } = message;
          const crc = fingerprint(message.body, message.properties);
          this.entries.push({ event: "got", serial, atMs, offset, attempt, crc, isDeadLetter });
          const kind = this.#kinds.get(serial);
          const keeps = !isDeadLetter && (kind === "hopeless" || (attempt === 1 && this.#random.chance(unackedShare)));
          return keeps ? [] : [{ message, serial, offset }];
        });
        for (const { message, serial, offset } of taken) {
          const isAcked = await consumer.ack(message).then(
            () => true,
            () => false, // too late, or the broker is away
          );
          if (isAcked && !isDeadLetter) this.entries.push({ event: "acked", serial, atMs: Date.now(), offset });
        }
      });
    }
    await client.close();
  }

  async #consumer(topic: string, group: string): Promise<SimpleConsumer> {
    const consumer = new SimpleConsumer({
      endpoints: this.#lab.endpoint,
      namespace: "",
      consumerGroup: group,
      subscriptions: new Map([[topic, "*"]]),
      awaitDuration: 1_000,
      maxRetryAttempts: 1,
      requestTimeout: requestMs,
      logger: quiet,
    });
    return started(surviving(consumer));
  }
}

const freeKinds: readonly Kind[] = [
  ...Array.from({ length: 9 }, (): Kind => "normal"),
  ...Array.from({ length: 4 }, (): Kind => "delayed"),
  ...Array.from({ length: 3 }, (): Kind => "committed"),
  "recalled",
  "rolled-back",
  "hopeless",
];
const shownMax = 8;
/** A run with fewer says nothing. */
const storedMin = 100;

const started = async <T extends Producer | SimpleConsumer>(client: T): Promise<T> => {
  // The client waits for ever for a server that is not there.
  const isStarted = await Promise.race([client.startup().then(() => true), pause(startMaxMs, false)]);
  if (isStarted) return client;
  void client.shutdown().catch(() => {});
  throw new Error("the official client did not start");
};

/** A client that is thrown away when something failed with it. */
class Renewed<T extends { shutdown(): Promise<void> }> {
  readonly #make: () => Promise<T>;
  #client: T | undefined;

  constructor(make: () => Promise<T>) {
    this.#make = make;
  }

  async use(act: (client: T) => Promise<void>): Promise<void> {
    try {
      this.#client ??= await this.#make();
      await act(this.#client);
    } catch {
      // The broker is away on purpose; what this failure means is judged by what is received.
      const broken = this.#client;
      this.#client = undefined;
      void broken?.shutdown().catch(() => {});
      await pause(100);
    }
  }

  async close(): Promise<void> {
    await Promise.race([this.#client?.shutdown().catch(() => {}), pause(startMaxMs)]);
  }
}
