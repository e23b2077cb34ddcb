import type { IncomingMessage, TopicSource } from "../../src/ingest/topic-source.port.ts";
import { epochMs } from "../../src/message/time.ts";
import type { SimNode } from "./sim-node.ts";
import type { Broker } from "./sim-sink.ts";
import { epochStartMs } from "./world.ts";

/**
 * The ingest topic with its consumer group: what was received and not acknowledged in time is given out again, to
 * anyone. Acknowledgements may be lost.
 */
type Kept = {
  readonly message: Omit<IncomingMessage, "deliveryAttempt">;
  hiddenUntilMs: number;
  given: number;
  isAcked: boolean;
};

const invisibleMs = 4_000;
const longPollMs = 400;
const batchMax = 8;

export class IngestTopic {
  readonly broker: Broker;
  readonly #kept: Kept[] = [];
  readonly #waiting = new Set<() => void>();
  ackLost = 0;

  constructor(broker: Broker) {
    this.broker = broker;
  }

  get unacknowledged(): number {
    return this.#kept.filter(({ isAcked }) => !isAcked).length;
  }

  /** @param name unique in this topic */
  produce(name: string, properties: ReadonlyMap<string, string>, body: Buffer = Buffer.from(name)): void {
    this.#kept.push({
      message: {
        brokerMessageId: `01${name.padStart(32, "0")}`,
        bornHost: "10.0.0.7:5000",
        bornAtMs: epochMs(Math.floor(epochStartMs + this.broker.world.nowMs)),
        topic: "ESC_INGEST",
        keys: [],
        properties,
        body,
        receipt: name,
      },
      hiddenUntilMs: 0,
      given: 0,
      isAcked: false,
    });
    for (const look of [...this.#waiting]) look();
  }

  source(node: SimNode): TopicSource {
    const { world, random } = this.broker;
    return {
      receive: (signal) =>
        new Promise((resolve, reject) => {
          let isOver = false;
          const finish = (messages: readonly IncomingMessage[]): void => {
            if (isOver) return;
            isOver = true;
            this.#waiting.delete(look);
            signal.removeEventListener("abort", stop);
            world.after(random.between(0.2, 1), node, () => resolve(messages));
          };
          const stop = (): void => finish([]);
          const look = (): void => {
            if (this.broker.isDown) return;
            const found = this.#kept
              .filter(({ isAcked, hiddenUntilMs }) => !isAcked && hiddenUntilMs <= world.nowMs)
              .slice(0, batchMax);
            if (found.length === 0) return;
            for (const kept of found) {
              kept.hiddenUntilMs = world.nowMs + invisibleMs;
              kept.given++;
            }
            world.trace.note(
              "ingest topic",
              `gives ${found.map(({ message }) => message.body).join(", ")} to ${node.name}`,
            );
            finish(found.map(({ message, given }) => ({ ...message, deliveryAttempt: given })));
          };
          if (this.broker.isDown) {
            isOver = true;
            world.after(random.between(1, 10), node, () => reject(new Error("broker_unavailable")));
            return;
          }
          signal.addEventListener("abort", stop, { once: true });
          this.#waiting.add(look);
          look();
          world.after(longPollMs, node, () => {
            look();
            finish([]);
          });
        }),
      ack: (messages) =>
        new Promise((resolve) => {
          const isLost = random.chance(this.ackLost) || this.broker.isDown;
          world.after(random.between(0.2, 1), undefined, () => {
            if (!isLost) {
              const receipts = new Set(messages.map(({ receipt }) => receipt));
              for (const kept of this.#kept) if (receipts.has(kept.message.receipt)) kept.isAcked = true;
            }
            world.after(random.between(0.2, 1), node, resolve);
          });
        }),
      close: async () => {},
    };
  }
}
