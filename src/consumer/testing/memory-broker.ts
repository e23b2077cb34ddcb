import type { SimulatedTime } from "../../broker/delivery/testing/simulated-time.ts";
import type { IncomingMessage } from "../../ingest/topic-source.port.ts";
import { epochMs } from "../../message/time.ts";
import type { RetryEnvelope } from "../../retry/envelope.ts";
import { decodeEnvelope } from "../../retry/envelope-codec.ts";
import type { DeliverySource, ReceiptOutcome, Taken } from "../delivery-source.port.ts";
import type { HandOff, HandOverMessage, HandOverResult } from "../hand-off.port.ts";

/**
 * RocketMQ and the delay server as a consumer sees them, in memory and on simulated time: messages that are invisible
 * after a delivery and come again with a higher count, receipts that go stale, an ingest topic whose messages come back
 * by the retry topic when they are due, are parked or lie among the dead. Order: with `ordered`, of a message group
 * only the first is out.
 */
type Stored = {
  readonly message: Omit<IncomingMessage, "receipt" | "deliveryAttempt">;
  deliveries: number;
  visibleAtMs: number;
  receipt: number;
};

const pollMs = 5_000;

export class MemoryBroker {
  readonly time: SimulatedTime;
  ordered = false;
  /** What the broker does instead of answering an acknowledgement. */
  acks: "work" | "fail" = "work";
  acked: string[] = [];
  renewals = 0;
  openPolls = 0;
  outMost = 0;
  readonly #topics = new Map<string, Stored[]>();
  readonly #wakes = new Set<() => void>();
  #receipts = 0;
  #ids = 0;

  constructor(time: SimulatedTime) {
    this.time = time;
  }

  send(topic: string, body: string, more: Partial<IncomingMessage> = {}): string {
    const brokerMessageId = `m${++this.#ids}`;
    const message = {
      brokerMessageId,
      bornHost: "host",
      bornAtMs: this.time.nowMs(),
      topic,
      keys: [],
      properties: new Map<string, string>(),
      body: Buffer.from(body),
      ...more,
    };
    const stored = this.#topics.get(topic) ?? [];
    this.#topics.set(topic, stored);
    stored.push({ message, deliveries: 0, visibleAtMs: 0, receipt: 0 });
    for (const wake of [...this.#wakes]) wake();
    return brokerMessageId;
  }

  /** What was sent last has been given out once, to somebody who never answered. */
  sawBefore(topic: string): void {
    this.#topics.get(topic)!.at(-1)!.deliveries++;
  }

  /** Not acknowledged, whoever has them. */
  left(topic: string): string[] {
    return (this.#topics.get(topic) ?? []).map(({ message }) => message.body.toString());
  }

  source(topic: string): DeliverySource {
    return {
      topic,
      receive: (max, signal) => this.#receive(topic, max, signal),
      ack: async (taken) => taken.map((one) => this.#ack(topic, one)),
      changeInvisible: async (taken, invisibleMs) => {
        const stored = this.#find(topic, taken);
        if (stored === undefined) return { outcome: "stale" };
        this.renewals++;
        stored.visibleAtMs = this.time.monotonicMs() + invisibleMs;
        stored.receipt = ++this.#receipts;
        this.time.after(invisibleMs, () => this.#wakeAll());
        return { outcome: "done", receipt: stored.receipt };
      },
      close: async () => {},
    };
  }

  invisibleMs = 30_000;

  #wakeAll(): void {
    for (const wake of [...this.#wakes]) wake();
  }

  #find(topic: string, { receipt }: Taken): Stored | undefined {
    const stored = this.#topics.get(topic)?.find((one) => one.receipt === receipt);
    return stored !== undefined && stored.visibleAtMs > this.time.monotonicMs() ? stored : undefined;
  }

  #ack(topic: string, taken: Taken): ReceiptOutcome {
    if (this.acks === "fail") return "failed";
    const stored = this.#find(topic, taken);
    if (stored === undefined) return "stale";
    const all = this.#topics.get(topic)!;
    all.splice(all.indexOf(stored), 1);
    this.acked.push(stored.message.body.toString());
    this.#wakeAll();
    return "done";
  }

  async #receive(topic: string, max: number, signal: AbortSignal): Promise<readonly IncomingMessage[]> {
    const untilMs = this.time.monotonicMs() + pollMs;
    this.openPolls++;
    try {
      for (;;) {
        if (signal.aborted) return [];
        const messages = this.#pop(topic, max);
        if (messages.length > 0 || this.time.monotonicMs() >= untilMs) return messages;
        await new Promise<void>((resolve) => {
          const wake = () => {
            this.#wakes.delete(wake);
            timer.cancel();
            signal.removeEventListener("abort", wake);
            resolve();
          };
          const timer = this.time.after(untilMs - this.time.monotonicMs(), wake);
          this.#wakes.add(wake);
          signal.addEventListener("abort", wake, { once: true });
        });
      }
    } finally {
      this.openPolls--;
    }
  }

  #pop(topic: string, max: number): IncomingMessage[] {
    const nowMs = this.time.monotonicMs();
    const all = this.#topics.get(topic) ?? [];
    const popped: IncomingMessage[] = [];
    const blocked = new Set<string>();
    for (const stored of all) {
      const { messageGroup } = stored.message;
      if (popped.length === max) break;
      if (this.ordered && messageGroup !== undefined && blocked.has(messageGroup)) continue;
      if (stored.visibleAtMs > nowMs) {
        if (messageGroup !== undefined) blocked.add(messageGroup);
        continue;
      }
      stored.deliveries++;
      stored.visibleAtMs = nowMs + this.invisibleMs;
      stored.receipt = ++this.#receipts;
      this.time.after(this.invisibleMs, () => this.#wakeAll());
      popped.push({ ...stored.message, deliveryAttempt: stored.deliveries, receipt: stored.receipt });
    }
    const out = [...this.#topics.values()].flat().filter(({ visibleAtMs }) => visibleAtMs > nowMs).length;
    this.outMost = Math.max(this.outMost, out);
    return popped;
  }
}

export type HandedOver = HandOverMessage & {
  readonly envelope: RetryEnvelope;
  readonly to: "retry" | "park" | "dead";
  readonly said: string;
  readonly atMs: number;
};

export class MemoryIngest implements HandOff {
  /** `lost`: stored, but the answer does not arrive. */
  mode: "work" | "fail" | "lost" = "work";
  /** The dead cannot be stored, all others can. */
  refusesDead = false;
  calls = 0;
  readonly all: HandedOver[] = [];
  readonly #broker: MemoryBroker;
  readonly #seen = new Set<string>();

  constructor(broker: MemoryBroker) {
    this.#broker = broker;
  }

  get dead(): HandedOver[] {
    return this.all.filter(({ to }) => to === "dead");
  }

  get parked(): HandedOver[] {
    return this.all.filter(({ to }) => to === "park");
  }

  async send(messages: readonly HandOverMessage[]): Promise<readonly HandOverResult[]> {
    this.calls++;
    return messages.map((message) => this.#one(message));
  }

  async close(): Promise<void> {}

  /** The breaker lets a parked message out. */
  release(parked: HandedOver): void {
    this.#deliver(parked);
  }

  #one(message: HandOverMessage): HandOverResult {
    const refused = { ok: false, code: "broker_unavailable", detail: "nobody is there" } as const;
    if (this.mode === "fail") return refused;
    const { properties } = message;
    const decoded = decodeEnvelope(properties.get("ESC_RETRY") ?? "");
    if (!decoded.ok) throw new Error(decoded.reason);
    const { envelope } = decoded;
    const [park, dead] = [properties.get("ESC_PARK"), properties.get("ESC_DEAD")];
    if (dead !== undefined && this.refusesDead) return refused;
    const id = `${envelope.group}/${envelope.originId}/${envelope.hop}`;
    if (!this.#seen.has(id)) {
      this.#seen.add(id);
      const to = dead !== undefined ? "dead" : park !== undefined ? "park" : "retry";
      const atMs = Number(properties.get("ESC_DELIVER_AT") ?? Number.NaN);
      const handedOver = { ...message, envelope, to, said: dead ?? park ?? "", atMs } as const;
      this.all.push(handedOver);
      if (to === "retry") {
        this.#broker.time.after(Math.max(0, atMs - this.#broker.time.nowMs()), () => this.#deliver(handedOver));
      }
    }
    return this.mode === "lost" ? refused : { ok: true };
  }

  #deliver({ properties, body, keys, tag, envelope }: HandedOver): void {
    const topic = properties.get("ESC_TOPIC")!;
    const kept = new Map(properties);
    for (const name of ["ESC_TOPIC", "ESC_PARK", "ESC_DEAD", "ESC_DELIVER_AT"]) kept.delete(name);
    kept.set("ESC_ID", `${envelope.originId}/${envelope.hop}`);
    this.#broker.send(topic, body.toString(), {
      properties: kept,
      keys,
      ...(tag === undefined ? {} : { tag }),
      bornAtMs: epochMs(this.#broker.time.nowMs()),
    });
  }
}
