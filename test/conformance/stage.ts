import { setTimeout as pause } from "node:timers/promises";
import { ClientRefusal, type DriverEvent, type DriverProcess, NoAnswer, NotOffered } from "./driver-process.ts";
import type { GroupSettings, Target, TopicType } from "./target.ts";
import type { TogetherOnce } from "./together.ts";

/**
 * What a behaviour has to play with: topics and groups of its own, and one official client's producers and consumers.
 * Everything it opens is closed after it.
 */
export type Received = {
  readonly handle: string;
  readonly messageId: string;
  readonly topic: string;
  readonly body: Buffer;
  readonly tag?: string;
  readonly keys: readonly string[];
  readonly properties: Readonly<Record<string, string>>;
  readonly messageGroup?: string;
  readonly deliverAtMs?: number;
  readonly bornAtMs: number;
  readonly attempt: number;
  /** When this program saw it. */
  readonly atMs: number;
};

export type Outgoing = {
  readonly body?: string | Buffer;
  readonly tag?: string;
  readonly keys?: readonly string[];
  readonly properties?: Readonly<Record<string, string>>;
  readonly messageGroup?: string;
  readonly deliverAtMs?: number;
};

export type Sent = { readonly messageId: string; readonly recallHandle?: string };
export type Check = { readonly messageId: string; readonly properties: Readonly<Record<string, string>> };

/** Longer than any client's own time limits together: what has not answered by then hangs. */
const answerMaxMs = 25_000;
const awaitDefaultMs = 2_000;

const wire = ({ body = "hello", ...rest }: Outgoing): object => ({
  ...rest,
  body: (typeof body === "string" ? Buffer.from(body) : body).toString("base64"),
});

const received = (shown: unknown): Received => {
  const message = shown as Omit<Received, "body" | "atMs"> & { body: string };
  return { ...message, body: Buffer.from(message.body, "base64"), atMs: Date.now() };
};

let names = 0;
const freshName = (what: string): string => `${what}_${process.pid}_${Date.now().toString(36)}_${++names}`;

export class ProducerOnStage {
  readonly #driver: DriverProcess;
  readonly #name: string;
  readonly checks: Check[] = [];

  constructor(driver: DriverProcess, name: string) {
    this.#driver = driver;
    this.#name = name;
    driver.onEvent((event) => {
      if (event.event === "check" && (event.producer ?? event.name) === name) this.checks.push(event as never);
    });
  }

  async send(topic: string, message: Outgoing = {}): Promise<Sent> {
    return (await this.#ask("send", { topic, ...wire(message) })) as Sent;
  }

  async sendBatch(topic: string, messages: readonly Outgoing[]): Promise<{ messageIds: string[]; receipts: string[] }> {
    return (await this.#ask("sendBatch", { topic, messages: messages.map(wire) })) as never;
  }

  async sendTransaction(
    topic: string,
    resolve: "commit" | "rollback" | "leave",
    message: Outgoing = {},
  ): Promise<Sent> {
    return (await this.#ask("sendTransaction", { topic, resolve, ...wire(message) })) as Sent;
  }

  async recall(topic: string, handle: string): Promise<{ messageId?: string }> {
    return await this.#ask("recall", { topic, handle });
  }

  #ask(verb: string, fields: object): Promise<Record<string, unknown>> {
    return this.#driver.ask(verb, { producer: this.#name, ...fields }, answerMaxMs);
  }
}

export class ConsumerOnStage {
  readonly #driver: DriverProcess;
  readonly #name: string;

  constructor(driver: DriverProcess, name: string) {
    this.#driver = driver;
    this.#name = name;
  }

  /** One long poll. */
  async receive(max = 16, invisibleMs = 30_000): Promise<Received[]> {
    const { messages } = await this.#driver.ask("receive", { consumer: this.#name, max, invisibleMs }, answerMaxMs);
    return (messages as unknown[]).map(received);
  }

  /**
   * Polls until so many came or the time is over; what came is not acknowledged unless asked. `different`: what comes
   * twice counts once, because a client on a busy machine sends again what was late. A poll that fails is followed by
   * another, as a consumer would, and its error is only told when no other poll came after it.
   */
  async collect(
    count: number,
    options: { withinMs: number; invisibleMs?: number; max?: number; ack?: boolean; different?: boolean },
  ): Promise<Received[]> {
    const { withinMs, invisibleMs = 30_000, max = 32, ack = false, different = false } = options;
    const endMs = Date.now() + withinMs;
    const all: Received[] = [];
    const came = () => (different ? new Set(all.map(({ messageId }) => messageId)).size : all.length);
    let failed: unknown;
    while (came() < count && Date.now() < endMs) {
      try {
        const messages = await this.receive(max, invisibleMs);
        failed = undefined;
        all.push(...messages);
        if (ack) await Promise.all(messages.map(({ handle }) => this.ack(handle)));
      } catch (error) {
        if (error instanceof NotOffered) throw error;
        failed = error;
        await pause(200);
      }
    }
    if (failed !== undefined) throw failed;
    return all;
  }

  async ack(handle: string): Promise<void> {
    await this.#driver.ask("ack", { handle }, answerMaxMs);
  }

  async changeInvisible(handle: string, invisibleMs: number): Promise<void> {
    await this.#driver.ask("changeInvisible", { handle, invisibleMs }, answerMaxMs);
  }
}

export type ConsumerOptions = {
  readonly filter?: string;
  readonly filterType?: "tag" | "sql";
  readonly awaitMs?: number;
};

export type StageParts = {
  readonly target: Target;
  readonly client: string;
  readonly driver: DriverProcess;
  /** Another program of the same client, with a stage of its own. */
  readonly another: () => Promise<DriverProcess>;
  /** A producer that all behaviours of this client share: starting one for each took most of a run's time. */
  readonly sender: () => Promise<ProducerOnStage>;
  /** Only in the phase for it. */
  readonly restart?: TogetherOnce;
};

export class Stage {
  readonly client: string;
  readonly #parts: StageParts;
  readonly #opened: string[] = [];
  readonly #others: DriverProcess[] = [];
  #restarted = false;

  constructor(parts: StageParts) {
    this.client = parts.client;
    this.#parts = parts;
  }

  /** A new topic. Four queues unless said otherwise: with one, a broker that mixes queues up would not be seen. */
  async topic(type: TopicType = "NORMAL", queues = 4): Promise<string> {
    const name = freshName(type);
    await this.#parts.target.createTopic(name, type, queues);
    return name;
  }

  async group(settings: GroupSettings = {}): Promise<string> {
    const name = freshName("GROUP");
    await this.#parts.target.createGroup(name, settings);
    return name;
  }

  /** The producer for all that does not test producers. */
  sender(): Promise<ProducerOnStage> {
    return this.#parts.sender();
  }

  async producer(
    topics: readonly string[],
    { check }: { check?: "commit" | "rollback" | "unknown" } = {},
  ): Promise<ProducerOnStage> {
    const name = freshName("producer");
    const producer = new ProducerOnStage(this.#parts.driver, name);
    await this.#open("producer", name, { topics, ...(check === undefined ? {} : { check }) });
    return producer;
  }

  async consumer(group: string, topic: string, options: ConsumerOptions = {}): Promise<ConsumerOnStage> {
    const { filter = "*", filterType = "tag", awaitMs = awaitDefaultMs } = options;
    const name = freshName("consumer");
    await this.#open("consumer", name, { group, topic, filter, filterType, awaitMs });
    return new ConsumerOnStage(this.#parts.driver, name);
  }

  /** A push consumer; what it is handed grows in the array that is returned. */
  async push(group: string, topic: string, { failFirst = 0 } = {}): Promise<readonly Received[]> {
    const name = freshName("push");
    const pushed: Received[] = [];
    this.#parts.driver.onEvent((event: DriverEvent) => {
      if (event.event === "pushed" && event.name === name) pushed.push(received(event.message));
    });
    await this.#open("push", name, { group, topic, filter: "*", failFirst });
    return pushed;
  }

  /** The same client in a program of its own, which can be made to vanish. */
  async another(): Promise<{ stage: Stage; vanish(): Promise<void> }> {
    const driver = await this.#parts.another();
    this.#others.push(driver);
    return { stage: new Stage({ ...this.#parts, driver }), vanish: () => driver.vanish() };
  }

  /** Resolves when the broker was killed and is up again, which happens once for all clients. */
  restart(): Promise<void> {
    if (this.#parts.restart === undefined) throw new Error("this behaviour is not in the phase for restarts");
    this.#restarted = true;
    return this.#parts.restart.arrive();
  }

  async close(): Promise<void> {
    if (!this.#restarted) this.#parts.restart?.leave();
    await Promise.all(this.#others.map((driver) => driver.close()));
    // A client that cannot close is not this behaviour's matter: its program is ended after the last one anyway.
    await Promise.allSettled(this.#opened.map((name) => this.#parts.driver.ask("close", { name }, 8_000)));
  }

  async #open(verb: string, name: string, fields: object): Promise<void> {
    await this.#parts.driver.ask(verb, { name, ...fields }, answerMaxMs);
    this.#opened.push(name);
  }
}

/** `ok`, or how it was refused: what the two brokers are compared by, because texts differ and codes should not. */
export const outcomeOf = async (act: () => Promise<unknown>): Promise<string> => {
  try {
    await act();
    return "ok";
  } catch (error) {
    if (error instanceof NotOffered || isLate(error)) throw error;
    return refusalText(error);
  }
};

/** A time limit of the client's own is no answer to what was asked; it says that the machine is busy. */
const isLate = (error: unknown): boolean =>
  error instanceof ClientRefusal &&
  (error.code === -4 ||
    (error.code === 0 && /timeout|timed out|deadline|cancell?ed|cancellation/i.test(error.message)));

export const refusalText = (error: unknown): string => {
  if (error instanceof NoAnswer) return "no answer";
  if (!(error instanceof ClientRefusal)) throw error;
  if (error.code === 0) return "refused by the client";
  return error.code < 0 ? `gRPC error ${-error.code}` : `error ${error.code}`;
};

export const until = async (condition: () => boolean, withinMs: number): Promise<boolean> => {
  const endMs = Date.now() + withinMs;
  while (!condition()) {
    if (Date.now() > endMs) return false;
    await pause(20);
  }
  return true;
};
