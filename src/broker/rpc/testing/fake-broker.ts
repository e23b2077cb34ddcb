import { code } from "../../../protocol/messaging-service.ts";
import type { Clock } from "../../../runtime/clock.ts";
import type { Timers } from "../../../runtime/timers.ts";
import type { Broker, GroupInfo, SendReceipt, TopicInfo } from "../../broker.port.ts";
import { BrokerError } from "../../broker-error.ts";
import type { BrokerMessage, StoredMessage } from "../../broker-message.ts";
import type { Delivery, Progress, ReceiveRequest } from "../../delivery/deliveries.port.ts";
import { checkGroupName, checkTopicName } from "../../names.ts";

/**
 * Just enough of a broker, in memory, to stand behind the doors in their tests: one group sees each message, nothing
 * is in order, nothing is durable. It is not what the embedded broker is made of.
 */
type Held = { message: StoredMessage; attempt: number; handle: string | undefined; visibleAtMs: number };

export type FakeBroker = Broker & {
  /** Every message that was sent, as the door handed it over. */
  readonly sent: BrokerMessage[];
  /** Asks a producer about all open transactions now; how many were asked. */
  checkNow(): number;
  heldCount(topic: string): { readonly visible: number; readonly out: number };
  /** Receive calls that wait. */
  waiting(): number;
};

export const createFakeBroker = (clock: Clock, timers: Timers): FakeBroker => {
  const topics = new Map<string, TopicInfo>();
  const groups = new Map<string, GroupInfo>();
  const waiting = new Map<string, Held[]>();
  const wakes = new Set<() => void>();
  const open = new Map<string, StoredMessage>();
  const sent: BrokerMessage[] = [];
  let handles = 0;
  let ask: (message: StoredMessage, transactionId: string) => boolean = () => false;

  const heldOf = (topic: string): Held[] => {
    const held = waiting.get(topic) ?? [];
    waiting.set(topic, held);
    return held;
  };
  const stored = (message: BrokerMessage): StoredMessage => ({
    ...message,
    queueId: 0,
    queueOffset: heldOf(message.topic).length,
    storedAtMs: clock.nowMs(),
  });
  const put = (message: StoredMessage, visibleAtMs: number): void => {
    heldOf(message.topic).push({ message, attempt: 0, handle: undefined, visibleAtMs });
    timers.after(Math.max(visibleAtMs - clock.nowMs(), 0), () => {
      for (const wake of [...wakes]) wake();
    });
  };
  const take = ({ topic, filter, max, invisibleMs }: ReceiveRequest): Delivery[] => {
    const nowMs = clock.nowMs();
    return heldOf(topic)
      .filter(({ message: { tag }, visibleAtMs }) => {
        return visibleAtMs <= nowMs && (filter.tags.size === 0 || (tag !== undefined && filter.tags.has(tag)));
      })
      .slice(0, max)
      .map((held) => {
        held.handle = `handle-${++handles}`;
        held.visibleAtMs = nowMs + invisibleMs;
        return { message: held.message, handle: held.handle, attempt: ++held.attempt };
      });
  };
  const find = (topic: string, handle: string): Held => {
    const held = heldOf(topic).find((one) => one.handle === handle && one.visibleAtMs > clock.nowMs());
    if (held === undefined) throw new BrokerError(code.invalidReceiptHandle, "the receipt handle is not valid");
    return held;
  };
  const remove = (topic: string, held: Held): void => {
    heldOf(topic).splice(heldOf(topic).indexOf(held), 1);
  };

  const broker: FakeBroker = {
    sent,
    checkNow: () => [...open].filter(([id, message]) => ask(message, id)).length,
    waiting: () => wakes.size,
    heldCount(topic) {
      const nowMs = clock.nowMs();
      const visible = heldOf(topic).filter(({ visibleAtMs }) => visibleAtMs <= nowMs).length;
      return { visible, out: heldOf(topic).length - visible };
    },
    topic(name) {
      checkTopicName(name);
      const topic = topics.get(name) ?? { name, type: "MIXED", queues: 2 };
      topics.set(name, topic);
      return topic;
    },
    group(name) {
      checkGroupName(name);
      const group = groups.get(name) ?? { name, attemptsMax: 17, orderly: false };
      groups.set(name, group);
      return group;
    },
    async send(messages) {
      const { type } = broker.topic(messages[0]!.topic);
      return messages.map((message): SendReceipt => {
        if (type !== "MIXED" && message.type !== type) {
          throw new BrokerError(code.messagePropertyConflictWithType, `the topic takes ${type} messages`);
        }
        sent.push(message);
        const one = stored(message);
        const receipt = { messageId: message.messageId, queueOffset: one.queueOffset };
        if (message.type === "TRANSACTION") {
          const transactionId = `transaction-${sent.length}`;
          open.set(transactionId, one);
          return { ...receipt, transactionId };
        }
        put(one, message.deliverAtMs ?? 0);
        return message.type === "DELAY" ? { ...receipt, recallHandle: message.messageId } : receipt;
      });
    },
    async receive(request, signal) {
      broker.topic(request.topic);
      broker.group(request.group);
      const endMs = clock.monotonicMs() + request.waitMs;
      for (;;) {
        const taken = signal.aborted ? [] : take(request);
        const leftMs = endMs - clock.monotonicMs();
        if (taken.length > 0 || leftMs <= 0 || signal.aborted) return taken;
        await new Promise<void>((resolve) => {
          const wake = () => {
            timer.cancel();
            wakes.delete(wake);
            signal.removeEventListener("abort", wake);
            resolve();
          };
          const timer = timers.after(leftMs + 1, wake);
          wakes.add(wake);
          signal.addEventListener("abort", wake, { once: true });
        });
      }
    },
    async acknowledge(_, topic, ackHandles) {
      return ackHandles.map((handle) => {
        try {
          remove(topic, find(topic, handle));
          return "ok";
        } catch {
          return "invalid";
        }
      });
    },
    async changeInvisible(_, topic, handle, invisibleMs) {
      const held = find(topic, handle);
      held.handle = `handle-${++handles}`;
      held.visibleAtMs = clock.nowMs() + invisibleMs;
      timers.after(invisibleMs, () => {
        for (const wake of [...wakes]) wake();
      });
      return held.handle;
    },
    async forwardToDeadLetters(group, topic, handle) {
      const held = find(topic, handle);
      remove(topic, held);
      put({ ...held.message, topic: `%DLQ%${group}` }, 0);
    },
    async endTransaction(transactionId, resolution) {
      const message = open.get(transactionId);
      if (message === undefined) throw new BrokerError(code.internalServerError, "there is no such transaction");
      open.delete(transactionId);
      if (resolution === "commit") put(message, 0);
    },
    async recall(topic, handle) {
      const held = heldOf(topic).find(({ message }) => message.messageId === handle);
      if (held === undefined) throw new BrokerError(code.internalServerError, "there is no such message");
      remove(topic, held);
      return handle;
    },
    createTopic: async (topic) => void topics.set(topic.name, topic),
    createGroup: async (group) => void groups.set(group.name, group),
    deleteTopic: async (name) => void topics.delete(name),
    deleteGroup: async (name) => void groups.delete(name),
    topics: () => [...topics.values()],
    groups: () => [...groups.values()],
    progress: (): Progress => ({ waiting: 0, out: 0, queues: [] }),
    onCheck(asked) {
      ask = asked;
    },
  };
  return broker;
};
