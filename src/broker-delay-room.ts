import { MemoryDocumentStore } from "./adapters/memory/memory-document-store.ts";
import { BrokerError } from "./broker/broker-error.ts";
import type { BrokerMessage } from "./broker/broker-message.ts";
import type { DelayRoom } from "./broker/delay-room.port.ts";
import { unwrap, wrap } from "./broker/message-envelope.ts";
import type { DelayStore } from "./delay/delay-store.port.ts";
import type { SendResult, Sink } from "./dispatch/sink.port.ts";
import type { TopicMemory } from "./ingest/topic-directory.port.ts";
import { isEscapementError } from "./message/errors.ts";
import { parseMessageId, timeOrderedId } from "./message/id.ts";
import type { DelayedMessage } from "./message/message.ts";
import { durationMs, epochMs, second } from "./message/time.ts";
import { code } from "./protocol/messaging-service.ts";
import type { Clock, MachineClock } from "./runtime/clock.ts";
import type { Log } from "./runtime/log.ts";
import type { Random } from "./runtime/random.ts";
import type { Timers } from "./runtime/timers.ts";
import { defaultTenant, Service, type ServiceMetrics } from "./service.ts";

/**
 * The DELAY messages of the embedded broker wait in a delay server of their own: the whole service, with the broker's
 * log as its sink. So they have its promises, and the broker no timers of its own.
 */
export type BrokerDelayRoomOptions = {
  readonly store: DelayStore;
  readonly memory: TopicMemory;
  readonly deliver: (message: BrokerMessage) => Promise<void>;
  readonly clock: Clock;
  readonly machine: MachineClock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
};

export const openBrokerDelayRoom = async (options: BrokerDelayRoomOptions): Promise<DelayRoom> => {
  const { store, memory, clock, machine, timers, random, log } = options;
  const service = new Service({
    store,
    // The broker's own deliveries have no policies.
    documents: new MemoryDocumentStore(),
    sink: logSink(options),
    // The broker has checked the topic, and creates it again if it is gone when the message is due.
    directory: { lookUp: async () => ({ outcome: "exists", types: ["NORMAL"] }) },
    memory,
    sources: [],
    machine,
    timers,
    random,
    // Its coming and going is the broker's, and not worth a line of its own.
    log: quieter(log),
    metrics: uncounted,
    node: "broker",
    leaseMs: durationMs(10 * second),
    ownTopics: new Set(),
  });
  await service.start();

  return {
    async schedule(message, deliverAtMs) {
      const nowMs = clock.nowMs();
      const tail = Math.floor(random.float() * 65_536);
      const delayed: DelayedMessage = {
        id: timeOrderedId(nowMs, random.bytes(new Uint8Array(10)), tail),
        tenant: defaultTenant,
        topic: message.topic,
        keys: [],
        properties: new Map(),
        body: wrap(message),
        deliverAtMs: epochMs(Math.floor(deliverAtMs)),
        acceptedAtMs: nowMs,
        attempt: 0,
      };
      await service.intake.accept({ message: delayed, onConflict: undefined, waitForTopic: true }).catch(refuse);
      return delayed.id;
    },
    async recall(name) {
      if (parseMessageId(name) === undefined) return "unknown";
      try {
        await service.intake.cancel({ id: name }, defaultTenant);
        return "recalled";
      } catch (error) {
        if (isEscapementError(error, "too_late")) return "too_late";
        if (isEscapementError(error, "not_found")) return "unknown";
        return refuse(error);
      }
    },
    close: () => service.stop(),
  };
};

/** A full disk, too much at once, a stop: the words of the delay server, as an answer of the broker. */
const refuse = (error: unknown): never => {
  if (!isEscapementError(error)) throw error;
  const status = error.code === "overloaded" ? code.tooManyRequests : code.internalServerError;
  throw new BrokerError(status, error.message);
};

/** What cannot be stored now (a full disk) is tried again later, as with any broker that is down. */
const logSink = ({ deliver }: BrokerDelayRoomOptions): Sink => ({
  send: (_topic, messages) =>
    Promise.all(
      messages.map(async ({ body }): Promise<SendResult> => {
        try {
          const message = unwrap(body);
          await deliver(message);
          return { ok: true, brokerMessageId: message.messageId };
        } catch (error) {
          const detail = error instanceof Error ? error.message : String(error);
          return { ok: false, failure: { class: "transient", code: "log_refused", detail } };
        }
      }),
    ),
  close: async () => {},
});

/** Every line says whose it is: the service beside it writes the same words about its own store. */
const quieter = (log: Log): Log => {
  const named = (write: (fields: object, text: string) => void) => (fields: object, text: string) =>
    write({ part: "delays of the broker", ...fields }, text);
  const [debug, warn, error, fatal] = [
    named((fields, text) => log.debug(fields, text)),
    named((fields, text) => log.warn(fields, text)),
    named((fields, text) => log.error(fields, text)),
    named((fields, text) => log.fatal(fields, text)),
  ];
  return { debug, info: debug, warn, error, fatal } as Log;
};

/** The service's numbers are about its users' messages; these here are the broker's business. */
const uncounted: ServiceMetrics = {
  accepted: () => {},
  refused: () => {},
  removed: () => {},
  sending: () => {},
  ended: () => {},
  failed: () => {},
  rotate: () => {},
  recentLateness: () => ({ count: 0, p50Ms: 0, p99Ms: 0, maxMs: 0 }),
  gauge: () => {},
  render: async () => ({ contentType: "text/plain", text: "" }),
};
