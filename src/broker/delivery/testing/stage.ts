import { Prng } from "../../../../test/sim/prng.ts";
import { silentLog } from "../../../runtime/log.ts";
import type { BrokerMessage } from "../../broker-message.ts";
import type { Delivery, ReceiveRequest } from "../deliveries.port.ts";
import { PopDeliveries } from "../pop-deliveries.ts";
import { MemoryLog } from "./memory-log.ts";
import { MemoryMessages } from "./memory-messages.ts";
import { SimulatedTime } from "./simulated-time.ts";

/** Deliveries on stores in memory and simulated time, and the words that tests speak. */
export class Stage {
  readonly time = new SimulatedTime();
  readonly store = new MemoryMessages();
  journal = new MemoryLog();
  readonly logged: { readonly fields: Record<string, unknown>; readonly text: string }[] = [];
  readonly buried: { readonly group: string; readonly id: string }[] = [];
  queueCount = 1;
  attemptsMax = 17;
  limits = { skippedMax: 100, heldMax: 1_000 };
  /** What burying waits for. */
  burying: () => Promise<void> = async () => {};
  deliveries!: PopDeliveries;
  readonly #random: Prng;

  constructor(seed = 1) {
    this.#random = new Prng(seed);
    this.start();
  }

  /** As after a crash: nothing is left but the stores. */
  start(journal = this.journal): void {
    this.journal = journal;
    const keep = (fields: unknown, text?: string) =>
      void this.logged.push({ fields: fields as Record<string, unknown>, text: text ?? "" });
    this.deliveries = new PopDeliveries({
      store: this.store,
      journal,
      rules: {
        queueCount: () => this.queueCount,
        attemptsMax: () => this.attemptsMax,
        bury: async (group, { messageId }) => {
          await this.burying();
          this.buried.push({ group, id: messageId });
        },
      },
      clock: this.time,
      timers: this.time,
      random: this.#random,
      limits: this.limits,
      log: { ...silentLog, warn: keep as never, error: keep as never },
    });
  }

  async send(id: string, options: { queueId?: number; tag?: string; messageGroup?: string; topic?: string } = {}) {
    const { queueId = 0, topic = "t", ...rest } = options;
    return this.store.append(topic, queueId, [message(id, topic, rest)]);
  }

  /** What there is now. */
  pop(request: Partial<ReceiveRequest> = {}): Promise<readonly Delivery[]> {
    return this.time.now(this.poll({ waitMs: 0, ...request }));
  }

  poll(request: Partial<ReceiveRequest> = {}, signal = new AbortController().signal): Promise<readonly Delivery[]> {
    return this.deliveries.receive({ ...anything, ...request }, signal);
  }

  async ids(request: Partial<ReceiveRequest> = {}): Promise<readonly string[]> {
    return (await this.pop(request)).map(({ message: { messageId } }) => messageId);
  }

  ack(deliveries: readonly Delivery[], group = "g"): Promise<readonly ("ok" | "invalid")[]> {
    const handles = deliveries.map(({ handle }) => handle);
    return this.time.now(this.deliveries.acknowledge(group, deliveries[0]?.message.topic ?? "t", handles));
  }
}

const anything: ReceiveRequest = {
  group: "g",
  topic: "t",
  filter: { tags: new Set() },
  max: 32,
  invisibleMs: 10_000,
  waitMs: 20_000,
};

const nothing = Buffer.alloc(0);

export const message = (
  messageId: string,
  topic: string,
  { tag, messageGroup }: { tag?: string; messageGroup?: string } = {},
): BrokerMessage => ({
  topic,
  messageId,
  type: messageGroup === undefined ? "NORMAL" : "FIFO",
  tag,
  messageGroup,
  deliverAtMs: undefined,
  userProperties: nothing,
  systemProperties: nothing,
  body: Buffer.from(messageId),
});
