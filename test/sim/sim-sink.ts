import type { SendFailure, SendResult, Sink } from "../../src/dispatch/sink.port.ts";
import { shardOf } from "../../src/message/id.ts";
import type { DelayedMessage } from "../../src/message/message.ts";
import type { Ledger, Send } from "./ledger.ts";
import type { Prng } from "./prng.ts";
import type { SimNode } from "./sim-node.ts";
import type { StoreConnection } from "./store-connection.ts";
import { handedMessages, trueDue } from "./store-journal.ts";
import { epochStartMs, type World } from "./world.ts";

/**
 * The broker, and each node's way to it. What arrives is stored, in the order of arrival; whether the sender hears of
 * it is another matter. The broker takes every message it is given, early or twice or out of order: finding that out
 * is the checks' work.
 */
export type BrokerTroubles = {
  /** Not stored, and said so. */
  transient: number;
  throttled: number;
  /** The answer is lost; half of them were stored. */
  unknown: number;
  slow: number;
  slowMs: number;
};

export const noBrokerTroubles: BrokerTroubles = { transient: 0, throttled: 0, unknown: 0, slow: 0, slowMs: 0 };

/** A body that starts so is refused for good, as a topic with a filter of its own might. */
export const poison = "poison";

const sendTimeoutMs = 3_000;

export class Broker {
  readonly world: World;
  readonly ledger: Ledger;
  readonly random: Prng;
  troubles: BrokerTroubles = { ...noBrokerTroubles };
  isDown = false;
  stalledUntilMs = 0;
  readonly closedTopics = new Set<string>();
  /** Beside those of sim-topics.ts. */
  readonly moreTopics = new Set<string>();
  /** For whoever consumes a topic. */
  onStored: (topic: string, message: DelayedMessage) => void = () => {};

  constructor(world: World, ledger: Ledger) {
    this.world = world;
    this.ledger = ledger;
    this.random = world.random.fork("broker");
  }

  /** Why nothing of this topic is taken at the moment. */
  refusalOf(topic: string): SendFailure | undefined {
    if (this.isDown) return failure("transient", "broker_unavailable");
    if (this.closedTopics.has(topic)) return failure("transient", "topic_route_missing");
    return undefined;
  }
}

export class SimSink implements Sink {
  readonly #broker: Broker;
  readonly #node: SimNode;
  readonly #connection: StoreConnection;
  readonly #underWay = new Set<{ isRetracted: boolean }>();
  #isClosed = false;

  constructor(broker: Broker, node: SimNode, connection: StoreConnection) {
    this.#broker = broker;
    this.#node = node;
    this.#connection = connection;
  }

  crash(): void {
    for (const call of this.#underWay) call.isRetracted = this.#broker.random.chance(0.5);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
  }

  send(topic: string, messages: readonly DelayedMessage[]): Promise<readonly SendResult[]> {
    const { world, random, troubles } = this.#broker;
    const node = this.#node;
    const ids = messages.map(({ id }) => id);
    const sends = messages.map((message) => this.#begin(topic, message, messages.length));
    const call = { isRetracted: false };
    this.#underWay.add(call);

    return new Promise((resolve) => {
      let isAnswered = false;
      const answer = (results: readonly SendResult[]): void => {
        if (isAnswered) return;
        isAnswered = true;
        this.#underWay.delete(call);
        results.forEach((result, i) => {
          sends[i]!.resultMs = world.nowMs;
          sends[i]!.result = result.ok ? "ok" : result.failure.class;
        });
        const words = new Set(
          results.map((result) => (result.ok ? "ok" : `${result.failure.class}: ${result.failure.code}`)),
        );
        world.trace.say(node.name, `hears of its send: ${[...words].join(", ")}`, ids);
        resolve(results);
      };
      const all = (result: SendResult): SendResult[] => messages.map(() => result);
      const answerSoon = (results: readonly SendResult[]): void => {
        world.after(random.between(0.2, 1), node, () => answer(results));
      };
      if (this.#isClosed) {
        answerSoon(all({ ok: false, failure: failure("transient", "sink_closed") }));
        return;
      }
      world.after(sendTimeoutMs, node, () => answer(all({ ok: false, failure: failure("unknown", "send_timeout") })));

      const fate = random.float();
      const { transient, throttled, unknown } = troubles;
      const isUnknown = fate < unknown;
      if (isUnknown && random.chance(0.5)) {
        // Lost on the way there.
        world.after(random.between(1, sendTimeoutMs), node, () =>
          answer(all({ ok: false, failure: failure("unknown", "connection_reset") })),
        );
        return;
      }
      const delayMs = random.chance(troubles.slow) ? random.between(5, troubles.slowMs) : random.between(0.3, 2);
      const arrive = (): void => {
        if (call.isRetracted) return;
        if (this.#broker.stalledUntilMs > world.nowMs) {
          world.at(this.#broker.stalledUntilMs, undefined, arrive);
          return;
        }
        const refusal =
          this.#broker.refusalOf(topic) ??
          (fate >= 1 - transient
            ? failure("transient", "broker_busy")
            : fate >= 1 - transient - throttled
              ? failure("throttled", "too_many_requests")
              : undefined);
        if (refusal !== undefined) {
          answerSoon(all({ ok: false, failure: refusal }));
          return;
        }
        const results = messages.map((message, i): SendResult => {
          if (message.body.toString().startsWith(poison)) {
            return { ok: false, failure: failure("permanent", "body_refused") };
          }
          sends[i]!.storedMs.push(world.nowMs);
          this.#broker.onStored(topic, message);
          return { ok: true, brokerMessageId: `${message.id}/${message.attempt}` };
        });
        world.trace.say("broker", `has it, from ${node.name}${isUnknown ? ", which will not hear of it" : ""}`, ids);
        node.hadEffect("send");
        if (isUnknown) {
          world.after(random.between(1, sendTimeoutMs), node, () =>
            answer(all({ ok: false, failure: failure("unknown", "connection_reset") })),
          );
        } else answerSoon(results);
      };
      world.after(delayMs, undefined, arrive);
    });
  }

  #begin(topic: string, message: DelayedMessage, together: number): Send {
    const { world, ledger } = this.#broker;
    const { id, attempt, messageGroup } = message;
    const record = ledger.messages.get(id) ?? ledger.record(id, shardOf(id, this.#connection.shardCount));
    const complain = (text: string): void => {
      ledger.seen.push({ rule: "sink port", text: `${this.#node.name}: ${text}`, ids: [id] });
    };
    if (topic !== message.topic) complain(`a message for ${message.topic} in a batch for ${topic}`);
    if (messageGroup !== undefined && together > 1) complain("a message of a group was not sent alone");
    const { maxAttempts, initialMs, maxMs, multiplier } = message.retry ?? promisedRetry;
    const referee = this.#connection.refereeMs;
    const send: Send = {
      startedMs: world.nowMs,
      node: this.#node,
      epoch: handedMessages.get(message),
      attempt,
      content: message.body.toString(),
      deliverAtMs: message.deliverAtMs,
      expireAtMs: message.expireAtMs,
      maxAttempts,
      minBackoffMs: Math.min(maxMs, initialMs * multiplier ** (attempt - 1)) / 2,
      storeEpoch: ledger.acquired.findLast((acquired) => acquired.shard === record.shard)?.epoch ?? 0,
      refereeMs: referee === undefined ? Number.NEGATIVE_INFINITY : epochStartMs + referee,
      storedMs: [],
      resultMs: undefined,
      result: undefined,
    };
    record.sends.push(send);
    world.trace.say(
      this.#node.name,
      `sends ${send.content}, attempt ${attempt}, epoch ${send.epoch}, due ${trueDue(message.deliverAtMs)}`,
      [id],
    );
    return send;
  }
}

/** What docs/semantics.md says of a message without a wish of its own; not asked of the code that is watched. */
const promisedRetry = { maxAttempts: 80, initialMs: 1_000, maxMs: 1_800_000, multiplier: 2 };

const failure = (failureClass: SendFailure["class"], code: string): SendFailure => ({
  class: failureClass,
  code,
  detail: "simulated",
});
