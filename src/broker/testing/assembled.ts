import { randomUUID } from "node:crypto";
import { epochMs } from "../../message/time.ts";
import { silentLog } from "../../runtime/log.ts";
import type { Random } from "../../runtime/random.ts";
import type { Timers } from "../../runtime/timers.ts";
import type { BrokerMessage } from "../broker-message.ts";
import { Catalog } from "../catalog.ts";
import type { DelayRoom } from "../delay-room.port.ts";
import type { Delivery } from "../delivery/deliveries.port.ts";
import { PopDeliveries } from "../delivery/pop-deliveries.ts";
import type { Files } from "../files/files.port.ts";
import { memoryFiles } from "../files/memory-files.ts";
import { LocalBroker } from "../local-broker.ts";
import { CommitLogStore } from "../storage/commit-log-store.ts";
import { SegmentedLog } from "../storage/segmented-log.ts";

/** A broker of its real parts on files in memory, with a delay room that a test opens by hand. */
export class Assembled {
  readonly broker: LocalBroker;
  readonly delayed: Map<string, BrokerMessage>;
  readonly #deliver: (message: BrokerMessage) => Promise<void>;
  readonly #close: () => Promise<void>;

  private constructor(
    broker: LocalBroker,
    delayed: Map<string, BrokerMessage>,
    deliver: (message: BrokerMessage) => Promise<void>,
    close: () => Promise<void>,
  ) {
    this.broker = broker;
    this.delayed = delayed;
    this.#deliver = deliver;
    this.#close = close;
  }

  static async start(options: AssembledOptions): Promise<Assembled> {
    const { files = memoryFiles(), timers, autoCreate = true, checkMs = 60_000 } = options;
    const clock = { nowMs: () => epochMs(Math.floor(Date.now())), monotonicMs: () => performance.now() };
    const random: Random = { float: () => 0.5, bytes: (target) => target.fill(7) };
    const surroundings = { clock, timers, random, log: silentLog };
    const flush = "sync";
    const store = await CommitLogStore.open({
      files,
      flush,
      retention: { keepMs: 3_600_000, keepBytes: 1 << 30 },
      ...surroundings,
    });
    const journal = await SegmentedLog.open({
      files,
      folder: "progress",
      flush,
      segmentBytes: 1 << 20,
      ...surroundings,
    });
    const delayed = new Map<string, BrokerMessage>();
    let text: string | undefined;
    let deliver: (message: BrokerMessage) => Promise<void> = async () => {};
    const room: DelayRoom = {
      schedule: async (message) => {
        const name = randomUUID();
        delayed.set(name, message);
        return name;
      },
      recall: async (name) => (delayed.delete(name) ? "recalled" : "unknown"),
      close: async () => {},
    };
    const broker = await LocalBroker.start({
      store,
      catalog: await Catalog.open({
        file: {
          load: async () => text,
          save: async (next) => {
            text = next;
          },
        },
        autoCreate,
      }),
      deliveries: async (rules) => new PopDeliveries({ store, journal, rules, ...surroundings }),
      delay: async (given) => {
        deliver = given;
        return room;
      },
      transactionCheckMs: checkMs,
      clock,
      timers,
      log: silentLog,
    });
    return new Assembled(
      broker,
      delayed,
      (message) => deliver(message),
      async () => {
        await broker.stop();
        await journal.close();
        await store.close();
      },
    );
  }

  /** What the delay room would do when all of it is due. */
  async allDue(): Promise<void> {
    for (const [name, message] of this.delayed) {
      this.delayed.delete(name);
      await this.#deliver(message);
    }
  }

  async receive(
    topic: string,
    options: { group?: string; tags?: string[]; waitMs?: number; invisibleMs?: number } = {},
  ) {
    const { group = "g", tags = [], waitMs = 0, invisibleMs = 60_000 } = options;
    const request = { group, topic, filter: { tags: new Set(tags) }, max: 32, invisibleMs, waitMs };
    return this.broker.receive(request, new AbortController().signal);
  }

  /** Receives and acknowledges; the bodies as text. */
  async consume(topic: string, options: { group?: string; waitMs?: number } = {}): Promise<string[]> {
    const { group = "g" } = options;
    const taken: readonly Delivery[] = await this.receive(topic, options);
    if (taken.length > 0) {
      await this.broker.acknowledge(
        group,
        topic,
        taken.map(({ handle }) => handle),
      );
    }
    return taken.map(({ message }) => message.body.toString());
  }

  close(): Promise<void> {
    return this.#close();
  }
}

export type AssembledOptions = {
  readonly files?: Files;
  readonly timers: Timers;
  readonly autoCreate?: boolean;
  readonly checkMs?: number;
};

let made = 0;
export const messageTo = (topic: string, body: string, more: Partial<BrokerMessage> = {}): BrokerMessage => ({
  topic,
  messageId: `ID${made++}`,
  type: more.messageGroup === undefined ? "NORMAL" : "FIFO",
  tag: undefined,
  messageGroup: undefined,
  deliverAtMs: undefined,
  userProperties: Buffer.alloc(0),
  systemProperties: Buffer.alloc(0),
  body: Buffer.from(body),
  ...more,
});
