import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { code, method } from "../../protocol/messaging-service.ts";
import type { AnswerCheck, EndResult, HalfBroker, HalfSendResult, OpenHalf } from "../../tx/half/half-broker.port.ts";
import { decodeStatusOnly } from "./protocol.ts";
import { createRegistration, type Registration } from "./registration.ts";
import { fromProxy, fromTransport } from "./send-failure.ts";
import { createMessageIds } from "./send-request.ts";
import { createSession, type Session, type SessionOptions } from "./session.ts";
import {
  type AskedCheck,
  decodeCheck,
  decodeHalfReceipt,
  encodeEnd,
  encodeHalf,
  encodeProducerHeartbeat,
  encodeProducerSettings,
  producerGoodbye,
} from "./transaction-messages.ts";

/**
 * The producer of half messages, on connections of its own: one for each topic, whose settings name that topic and no
 * other. The proxy asks any producer that names a topic about its halves, so one that cannot answer loses questions,
 * and there must be none.
 *
 * What surprised us: a broker asks about a half whether it has ended or not, and takes every answer. So a question about
 * a half that we are still answering is not answered a second time; and what may be answered at all is decided by whoever
 * gave us `check`, never by the broker's words.
 */
export type TransactionalProducerOptions = Omit<SessionOptions, "idleMs"> & {
  readonly check: AnswerCheck;
  /** How long a half may take to be sent. Nobody sends it twice. Default 3,000. */
  readonly sendTimeoutMs?: number;
  /** Questions answered at a time; each takes a database connection. Default 8. */
  readonly checksAtOnceMax?: number;
  /** Questions that wait for their turn; more are not answered, and asked again. Default 1,000. */
  readonly checksWaitingMax?: number;
};

const endTimeoutMs = 3_000;
/** In the client id, so that `tx doctor` can tell our producers from others. */
export const transactionalMark = "escapement-tx";

type TopicProducer = { readonly session: Session; readonly registration: Registration };

export type TransactionalProducer = HalfBroker & {
  /** True once the proxy knows us as a producer of this topic; false when it does not in time, for `trouble(topic)`. */
  registered(topic: string, timeoutMs: number, signal: AbortSignal): Promise<boolean>;
  trouble(topic: string): string;
};

export const createTransactionalProducer = (options: TransactionalProducerOptions): TransactionalProducer => {
  const { clock, log, timers, check, sendTimeoutMs = 3_000 } = options;
  const { checksAtOnceMax = 8, checksWaitingMax = 1_000 } = options;
  const nextId = createMessageIds(randomBytes(8));
  const bornHost = hostname();
  const producers = new Map<string, TopicProducer>();
  const waiting: AskedCheck[] = [];
  /** Transactions whose question waits or is being answered. */
  const asked = new Set<string>();
  const working = new Set<Promise<unknown>>();
  let answering = 0;
  let closed = false;

  const during = <T>(work: Promise<T>): Promise<T> => {
    working.add(work);
    return work.finally(() => working.delete(work));
  };

  const producerOf = (topic: string): TopicProducer => {
    const known = producers.get(topic);
    if (known !== undefined) return known;
    const session = createSession({ ...options, clientMark: transactionalMark });
    const registration = createRegistration({
      session,
      who: { producerOf: topic },
      words: {
        settings: encodeProducerSettings(topic),
        heartbeat: encodeProducerHeartbeat(),
        goodbye: producerGoodbye,
      },
      onCommand: (command) => take(command),
      timers,
      log,
    });
    const producer = { session, registration };
    producers.set(topic, producer);
    return producer;
  };

  const take = (command: Buffer): void => {
    const one = decodeCheck(command);
    if (one === undefined || closed || asked.has(one.transactionId)) return;
    if (waiting.length >= checksWaitingMax) {
      log.warn(
        { topic: one.check.topic, waiting: waiting.length },
        "too many transaction checks, this one is not answered",
      );
      return;
    }
    asked.add(one.transactionId);
    waiting.push(one);
    answerNext();
  };

  const answerNext = (): void => {
    if (closed || answering >= checksAtOnceMax) return;
    const one = waiting.shift();
    if (one === undefined) return;
    answering++;
    void during(answer(one)).finally(() => {
      answering--;
      asked.delete(one.transactionId);
      answerNext();
    });
  };

  const answer = async ({ check: question, transactionId }: AskedCheck): Promise<void> => {
    const { topic, messageId } = question;
    try {
      const resolution = await check(question);
      if (resolution === undefined) return;
      const result = await end({ topic, messageId, transactionId }, resolution, "check");
      if (!result.ok) log.warn({ topic, transactionId, resolution, detail: result.detail }, "the answer was not taken");
    } catch (error) {
      log.warn({ topic, transactionId, err: error }, "a transaction check could not be answered; it is asked again");
    }
  };

  const end = async (
    half: OpenHalf,
    resolution: "commit" | "rollback",
    source: "client" | "check",
  ): Promise<EndResult> => {
    const reply = await producerOf(half.topic).session.unary({
      method: method.endTransaction,
      request: encodeEnd(half, resolution, source),
      timeoutMs: endTimeoutMs,
      decode: decodeStatusOnly,
    });
    if (!reply.ok) return { ok: false, detail: reply.failure.detail };
    const { code: answered, text } = reply.value;
    return answered === code.ok ? { ok: true } : { ok: false, detail: `RocketMQ answered ${answered}: ${text}` };
  };

  const send: HalfBroker["send"] = async (half) => {
    const messageId = nextId(clock.nowMs());
    const reply = await producerOf(half.topic).session.unary({
      method: method.sendMessage,
      request: encodeHalf(half, { messageId, bornAtMs: clock.nowMs(), bornHost }),
      timeoutMs: sendTimeoutMs,
      decode: decodeHalfReceipt,
    });
    if (!reply.ok) return { ok: false, failure: fromTransport(reply.failure) };
    const { status, transactionId } = reply.value;
    if (status.code !== code.ok) return { ok: false, failure: fromProxy(status.code, status.text) };
    if (transactionId !== "") return { ok: true, half: { topic: half.topic, messageId, transactionId } };
    // Sent as an ordinary message by a broker that does not know transactions: it is visible already.
    return { ok: false, failure: { class: "permanent", code: "not_transactional", detail: noTransaction } };
  };

  const stopping: HalfSendResult = {
    ok: false,
    failure: { class: "transient", code: "producer_closed", detail: "this process is stopping" },
  };

  return {
    listen(topic) {
      if (!closed) producerOf(topic);
    },
    send: async (half) => (closed ? stopping : during(send(half))),
    end: async (half, resolution) =>
      closed ? { ok: false, detail: "this process is stopping" } : during(end(half, resolution, "client")),
    registered: (topic, timeoutMs, signal) => producerOf(topic).registration.registered(timeoutMs, signal),
    trouble: (topic) => producerOf(topic).registration.trouble,
    async close() {
      if (closed) return;
      closed = true;
      waiting.length = 0;
      await Promise.allSettled(working);
      await Promise.all(
        [...producers.values()].map(async ({ session, registration }) => {
          await registration.close();
          session.close();
        }),
      );
    },
  };
};

const noTransaction = "the broker answered without a transaction id; does it support transactional messages?";
