import { code, method } from "../../protocol/messaging-service.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Log } from "../../runtime/log.ts";
import { Loop } from "../../runtime/loop.ts";
import type { Timers } from "../../runtime/timers.ts";
import type { Broker } from "../broker.port.ts";
import { BrokerError } from "../broker-error.ts";
import type { Delivery } from "../delivery/deliveries.port.ts";
import { ClientSessions } from "./client-sessions.ts";
import { deliveredMessage, deliveryTime, recoverTransaction } from "./delivered-message.ts";
import { autoInvisibleMs, HandleRenewal } from "./handle-renewal.ts";
import { ackReply, assignmentReply, okReply, refusal, routeReply, sendReply, textReply } from "./replies.ts";
import {
  type Address,
  checkReadable,
  type ReceiveRequestFields,
  readAckRequest,
  readEndTransaction,
  readHandleRequest,
  readInvisibleMs,
  readRecall,
  readReceiveRequest,
  readRouteRequest,
} from "./requests.ts";
import { readSendRequest } from "./send-request.ts";
import { type ClientSettings, pollMsMax, readTelemetry, receiveBatchMax, settingsReply } from "./settings.ts";

/**
 * apache.rocketmq.v2.MessagingService without its transport: bytes in, bytes out. A gRPC server, a test and a program
 * that holds the broker in hand call it alike. Refusals are replies with a status, so that nothing here rejects.
 *
 * Not offered, and said so: SQL92 filters, lite topics, priorities, reading by offset (PullMessage and its kin).
 */
export type Caller = {
  readonly clientId: string | undefined;
  /** Where it calls from. */
  readonly remoteHost: string;
  /** How it calls us, `host:port`; what it says in `:authority`. */
  readonly authority: string | undefined;
  /** Where its call arrived. */
  readonly local: Address;
  /** How much longer it will wait, if it said so. */
  readonly leftMs: number | undefined;
};

export type MessagingServiceOptions = {
  readonly broker: Broker;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
};

export type TelemetrySide = {
  /** @throws RangeError when it cannot be read; the stream is to be ended then. */
  onMessage(message: Buffer): void;
  onEnd(): void;
};

/** The answer travels, too: a poll ends this long before its caller gives up. */
const pollReserveMs = 500;
const invisibleMsMax = 12 * 3_600_000;
const housekeepingMs = 5_000;
/** An id is host, process and a few letters. */
const clientIdCharsMax = 512;
/**
 * The Node client loses settings that arrive before it has asked for the routes of all its topics, and then waits for
 * ever; it may take more than one.
 */
const settingsAgainMs = 300;

const commit = 1;
const rollback = 2;

export class MessagingService {
  readonly #options: MessagingServiceOptions;
  readonly #sessions: ClientSessions;
  readonly #renewal: HandleRenewal;
  readonly #housekeeping: Loop;
  readonly #unary: ReadonlyMap<string, (request: Buffer, caller: Caller, clientId: string) => Buffer | Promise<Buffer>>;

  constructor(options: MessagingServiceOptions) {
    this.#options = options;
    const { broker, clock, timers, log } = options;
    this.#sessions = new ClientSessions(clock);
    this.#renewal = new HandleRenewal(broker, clock);
    this.#housekeeping = new Loop({
      name: "broker clients",
      timers,
      log,
      runOnce: async () => {
        this.#sessions.forgetSilent();
        await this.#renewal.renewDue((clientId) => this.#sessions.isAlive(clientId));
        return housekeepingMs;
      },
    }).start();
    broker.onCheck((message, transactionId) => {
      const ask = this.#sessions.producerOf(message.topic);
      ask?.(recoverTransaction(message, transactionId, storeHost));
      return ask !== undefined;
    });
    const unsupported = () => {
      throw new BrokerError(code.unsupported, "this broker does not support reading by offset and lite topics");
    };
    this.#unary = new Map<string, (request: Buffer, caller: Caller, clientId: string) => Buffer | Promise<Buffer>>([
      [method.sendMessage, (request, caller) => this.#send(request, caller)],
      [method.ackMessage, (request) => this.#acknowledge(request)],
      [method.changeInvisibleDuration, (request) => this.#changeInvisible(request)],
      [method.forwardMessageToDeadLetterQueue, (request) => this.#forward(request)],
      [method.endTransaction, (request) => this.#endTransaction(request)],
      [method.recallMessage, (request) => this.#recall(request)],
      [method.queryRoute, (request, caller) => this.#route(request, caller)],
      [method.queryAssignment, (request, caller) => this.#assignment(request, caller)],
      [method.heartbeat, (request, _, clientId) => this.#heartbeat(request, clientId)],
      [method.notifyClientTermination, (request, _, clientId) => this.#goodbye(request, clientId)],
      [method.pullMessage, unsupported],
      [method.updateOffset, unsupported],
      [method.getOffset, unsupported],
      [method.queryOffset, unsupported],
      [method.syncLiteSubscription, unsupported],
    ]);
  }

  /** True for what `unary` answers; the two streaming methods have functions of their own. */
  isUnary(name: string): boolean {
    return this.#unary.has(name);
  }

  async unary(name: string, request: Buffer, caller: Caller): Promise<Buffer> {
    try {
      const clientId = checkedClientId(caller);
      this.#sessions.seen(clientId);
      const handler = this.#unary.get(name);
      if (handler === undefined) throw new BrokerError(code.unsupported, `there is no method ${name}`);
      return await handler(request, caller, clientId);
    } catch (error) {
      return this.#refusal(error, name);
    }
  }

  /** Writes a status, the messages and a time; or a status only. Resolves when all is written or nobody listens. */
  async receive(request: Buffer, caller: Caller, signal: AbortSignal, write: (reply: Buffer) => void): Promise<void> {
    const poll = new AbortController();
    const leave = () => poll.abort(signal.reason);
    try {
      const clientId = checkedClientId(caller);
      const fields = readReceiveRequest(request);
      const invisibleMs = checkedInvisibleMs(fields);
      this.#sessions.pollBegins(clientId, poll);
      signal.addEventListener("abort", leave, { once: true });
      if (signal.aborted) leave();
      const deliveries = await this.#poll(fields, invisibleMs, clientId, caller.leftMs, poll.signal);
      if (signal.aborted) return this.#giveBack(fields, deliveries);
      if (deliveries.length === 0) return write(noMessages);
      write(okReply);
      for (const delivery of deliveries) {
        if (fields.autoRenew) this.#renewal.hold(clientId, fields.group, fields.topic, delivery.handle);
        write(deliveredMessage(delivery, invisibleMs, storeHost));
      }
      write(deliveryTime(this.#options.clock.nowMs()));
    } catch (error) {
      if (!signal.aborted) write(this.#refusal(error, method.receiveMessage));
    } finally {
      signal.removeEventListener("abort", leave);
      if (caller.clientId !== undefined) this.#sessions.pollEnded(caller.clientId, poll);
    }
  }

  telemetry(caller: Caller, write: (message: Buffer) => void): TelemetrySide {
    const { broker, timers } = this.#options;
    let ended = false;
    let answered = false;
    const answer = (settings: ClientSettings) => {
      if (ended) return;
      try {
        const group = settings.subscription?.group;
        write(settingsReply(settings, group === undefined || group === "" ? undefined : broker.group(group)));
      } catch (error) {
        write(this.#refusal(error, method.telemetry));
      }
    };
    return {
      onMessage: (message) => {
        const settings = readTelemetry(message);
        if (settings === undefined) return;
        try {
          this.#sessions.takeSettings(checkedClientId(caller), write, settings);
        } catch (error) {
          return write(this.#refusal(error, method.telemetry));
        }
        answer(settings);
        const topics = settings.publishing?.topics ?? settings.subscription?.topics ?? [];
        if (!answered && topics.length > 1) timers.after(settingsAgainMs, () => answer(settings));
        answered = true;
      },
      onEnd: () => {
        ended = true;
        if (caller.clientId !== undefined) this.#sessions.streamEnded(caller.clientId, write);
      },
    };
  }

  /** Ends long polls, and what runs by itself. Calls may still come. */
  async stop(): Promise<void> {
    this.#options.broker.onCheck(() => false);
    this.#sessions.endPolls();
    await this.#housekeeping.stop();
  }

  async #send(request: Buffer, { remoteHost }: Caller): Promise<Buffer> {
    return sendReply(await this.#options.broker.send(readSendRequest(request, remoteHost)));
  }

  async #poll(
    { group, topic, filter, batchSize, pollMs }: ReceiveRequestFields,
    invisibleMs: number,
    clientId: string,
    leftMs: number | undefined,
    signal: AbortSignal,
  ): Promise<readonly Delivery[]> {
    const askedMs = pollMs ?? this.#sessions.settings(clientId)?.subscription?.pollMs ?? pollMsMax;
    const allowedMs = leftMs === undefined ? pollMsMax : Math.min(leftMs - pollReserveMs, pollMsMax);
    const waitMs = Math.max(Math.min(askedMs, allowedMs), 0);
    const max = Math.min(Math.max(batchSize, 1), receiveBatchMax);
    try {
      return await this.#options.broker.receive({ group, topic, filter, max, invisibleMs, waitMs }, signal);
    } catch (error) {
      if (signal.aborted) return [];
      throw error;
    }
  }

  /** The client left while its messages were on the way to it. */
  async #giveBack({ group, topic }: ReceiveRequestFields, deliveries: readonly Delivery[]): Promise<void> {
    const { broker } = this.#options;
    await Promise.allSettled(deliveries.map(({ handle }) => broker.changeInvisible(group, topic, handle, 0)));
  }

  async #acknowledge(request: Buffer): Promise<Buffer> {
    const { group, topic, entries } = readAckRequest(request);
    if (entries.length === 0) throw new BrokerError(code.badRequest, "there is no entry in the acknowledgement");
    const handles = await this.#renewal.release(entries.map(({ handle }) => handle));
    return ackReply(entries, await this.#options.broker.acknowledge(group, topic, handles));
  }

  async #changeInvisible(request: Buffer): Promise<Buffer> {
    const { group, topic, handle } = readHandleRequest(request);
    const invisibleMs = readInvisibleMs(request);
    if (invisibleMs < 0 || invisibleMs > invisibleMsMax) throw illegalInvisible(0);
    const current = await this.#renewal.releaseOne(handle);
    return textReply(await this.#options.broker.changeInvisible(group, topic, current, invisibleMs));
  }

  async #forward(request: Buffer): Promise<Buffer> {
    const { group, topic, handle } = readHandleRequest(request);
    const current = await this.#renewal.releaseOne(handle);
    await this.#options.broker.forwardToDeadLetters(group, topic, current);
    return okReply;
  }

  async #endTransaction(request: Buffer): Promise<Buffer> {
    const { transactionId, resolution } = readEndTransaction(request);
    if (transactionId.trim() === "") {
      throw new BrokerError(code.invalidTransactionId, "the transaction id must not be empty");
    }
    // Neither means "I do not know yet", and the broker asks again.
    if (resolution === commit) await this.#options.broker.endTransaction(transactionId, "commit");
    else if (resolution === rollback) await this.#options.broker.endTransaction(transactionId, "rollback");
    return okReply;
  }

  async #recall(request: Buffer): Promise<Buffer> {
    const { topic, handle } = readRecall(request);
    return textReply(await this.#options.broker.recall(topic, handle));
  }

  #route(request: Buffer, caller: Caller): Buffer {
    const { topic, address } = readRouteRequest(request, 2);
    return routeReply(this.#options.broker.topic(topic), addressFor(caller, address));
  }

  #assignment(request: Buffer, caller: Caller): Buffer {
    const { topic, address } = readRouteRequest(request, 3);
    return assignmentReply(this.#options.broker.topic(topic), addressFor(caller, address));
  }

  /** Whose settings are not known (any more) is told so: the Go client, and ours, send them again then. */
  #heartbeat(request: Buffer, clientId: string): Buffer {
    checkReadable(request);
    if (this.#sessions.settings(clientId) !== undefined) return okReply;
    return refusal(code.unrecognizedClientType, "this client's settings are not known; send them again");
  }

  #goodbye(request: Buffer, clientId: string): Buffer {
    checkReadable(request);
    this.#sessions.goodbye(clientId);
    return okReply;
  }

  #refusal(error: unknown, name: string): Buffer {
    if (error instanceof BrokerError) return refusal(error.status, error.message);
    if (error instanceof RangeError) {
      return refusal(code.badRequest, `the request cannot be read: ${error.message}`);
    }
    this.#options.log.error({ err: error, method: name }, "a call failed by a mistake in the broker");
    return refusal(code.internalError, "the broker failed to do this; its log says more");
  }
}

/** The broker knows no address of its own, and consumers have no use for it. */
const storeHost = "127.0.0.1";

/**
 * The address that the client reached us by. What it says in `:authority` is that for most; the Java client has a fixed
 * word there and says it in the request, where others may say something made up.
 */
const addressFor = ({ authority, local }: Caller, said: Address | undefined): Address => {
  const parsed = authority === undefined ? undefined : parseAuthority(authority);
  if (parsed !== undefined) return parsed;
  return said !== undefined && said.host !== "" && isPort(said.port) ? said : local;
};

const noMessages = refusal(code.messageNotFound, "no new message");

const checkedClientId = ({ clientId }: Caller): string => {
  if (clientId === undefined || clientId.trim() === "") {
    throw new BrokerError(code.clientIdRequired, "the header x-mq-client-id is missing");
  }
  if (clientId.length > clientIdCharsMax) {
    throw new BrokerError(code.clientIdRequired, `the client id is longer than ${clientIdCharsMax} characters`);
  }
  return clientId;
};

/** The real proxy wants 10 s at least, by its default; tests of a retry need not wait that long. */
const checkedInvisibleMs = ({ autoRenew, invisibleMs }: ReceiveRequestFields): number => {
  if (autoRenew) return autoInvisibleMs;
  if (invisibleMs === undefined || invisibleMs < 1 || invisibleMs > invisibleMsMax) throw illegalInvisible(1);
  return invisibleMs;
};

const illegalInvisible = (min: number): BrokerError =>
  new BrokerError(
    code.illegalInvisibleTime,
    `the invisible duration must be between ${min} ms and ${invisibleMsMax / 3_600_000} hours`,
  );

const isPort = (port: number): boolean => Number.isInteger(port) && port >= 1 && port <= 65_535;

const parseAuthority = (authority: string): Address | undefined => {
  const [, host, port] = /^(\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9._-]+):(\d{1,5})$/.exec(authority) ?? [];
  if (host === undefined || !isPort(Number(port))) return undefined;
  return { host: host.replace(/^\[(.*)\]$/, "$1"), port: Number(port) };
};
