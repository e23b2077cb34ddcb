import { code } from "../../protocol/messaging-service.ts";
import type { Clock } from "../../runtime/clock.ts";
import { reach } from "../../runtime/failpoint.ts";
import type { Log } from "../../runtime/log.ts";
import type { Random } from "../../runtime/random.ts";
import type { Timers } from "../../runtime/timers.ts";
import { BrokerError } from "../broker-error.ts";
import type { AppendLog } from "../storage/append-log.port.ts";
import type { MessageStore } from "../storage/message-store.port.ts";
import { Agenda } from "./agenda.ts";
import type { Deliveries, Delivery, DeliveryRules, Progress, ReceiveRequest } from "./deliveries.port.ts";
import { PollLine } from "./poll-line.ts";
import { wallOf } from "./progress-book.ts";
import { ProgressJournal } from "./progress-journal.ts";
import { readHandle, writeHandle } from "./receipt-handle.ts";
import { Subscription, type SubscriptionOptions } from "./subscription.ts";
import { type DeliveryLimits, deliveryLimits, type Exhausted } from "./turn.ts";

/**
 * Pop, acknowledge, change invisibility, long polls: the rooms of this folder joined. Everything happens in memory at
 * once and in order; only answers wait.
 *
 * A message is buried after its copy is stored and before that is noted; a crash in between buries it twice.
 */
export type PopDeliveriesOptions = {
  readonly store: MessageStore;
  /** The progress journal, opened; it stays open at `close`. Opening it cuts off what is torn at its end. */
  readonly journal: AppendLog;
  readonly rules: DeliveryRules;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly limits?: DeliveryLimits;
};

/** 35 years. What is longer, or no number, is a mistake, and has no room in a record. */
const invisibleMsMax = 2 ** 40;
/** When the dead-letter topic could not take a message. */
const buryAgainMs = 1_000;

export class PopDeliveries implements Deliveries {
  readonly #options: PopDeliveriesOptions;
  readonly #journal: ProgressJournal;
  readonly #agenda: Agenda;
  /** By topic, then group. */
  readonly #lines = new Map<string, Map<string, PollLine>>();
  /** Under way; what is stored in the dead-letter topic is to be noted before the end. */
  readonly #burials = new Set<Promise<void>>();
  #closed = false;

  /** Reads the journal. @throws Error when it holds what this version cannot read. */
  constructor(options: PopDeliveriesOptions) {
    const { journal, clock, timers, log, store } = options;
    this.#options = options;
    this.#agenda = new Agenda(timers, () => clock.monotonicMs());
    this.#journal = new ProgressJournal({ log: journal, clock, timers, eventLog: log });
    this.#journal.onRepaired = () => {
      for (const line of this.#allLines()) line.serve();
    };
    for (const { group, topic } of this.#journal.book.subscriptions) this.#lineOrNew(group, topic);
    this.#cutToStore();
    store.onAppended((topic) => {
      for (const line of this.#lines.get(topic)?.values() ?? []) line.serve();
    });
  }

  async receive(request: ReceiveRequest, signal: AbortSignal): Promise<readonly Delivery[]> {
    this.#mustWork();
    checkInvisible(request.invisibleMs);
    if (signal.aborted) return [];
    const line = this.#lineOrNew(request.group, request.topic);
    const deliveries = await line.poll(request, signal);
    if (deliveries.length > 0) reach("popped");
    if (!signal.aborted || deliveries.length === 0) return deliveries;
    this.#giveBack(line, deliveries);
    return [];
  }

  async acknowledge(group: string, topic: string, handles: readonly string[]): Promise<readonly ("ok" | "invalid")[]> {
    this.#mustWork();
    const line = this.#line(group, topic);
    const nowMs = this.#options.clock.monotonicMs();
    const done = new Map<number, number[]>();
    let repeated = false;
    const results = handles.map((text) => {
      const handle = readHandle(text);
      const found = line?.subscription.find(handle, nowMs);
      if (found === undefined) {
        // Clients repeat an acknowledgement whose answer they did not get, and it has had its effect.
        if (!line?.subscription.isDone(handle)) return "invalid";
        repeated = true;
        return "ok";
      }
      found.queue.done(found.held.offset);
      const offsets = done.get(handle!.queueId);
      if (offsets === undefined) done.set(handle!.queueId, [found.held.offset]);
      else offsets.push(found.held.offset);
      return "ok";
    });
    if (line === undefined || (done.size === 0 && !repeated)) return results;
    const durable = this.#journal.durable(
      Array.from(done, ([queueId, offsets]) => ({ kind: "done", queue: { group, topic, queueId }, offsets })),
    );
    // The next of a message group may go out now. If power fails before this is on the disk, both come again, in order.
    line.serve();
    reach("done-in-memory");
    await durable;
    reach("done-on-disk");
    return results;
  }

  async changeInvisible(group: string, topic: string, text: string, invisibleMs: number): Promise<string | undefined> {
    this.#mustWork();
    checkInvisible(invisibleMs);
    const line = this.#line(group, topic);
    const handle = readHandle(text);
    const now = this.#journal.now();
    const found = line?.subscription.find(handle, now.monotonicMs);
    if (line === undefined || found === undefined) return undefined;
    const nonce = line.subscription.newNonce();
    const untilMs = now.monotonicMs + invisibleMs;
    found.queue.change(found.held, nonce, untilMs, invisibleMs);
    const { queueId, offset } = handle!;
    const untilWallMs = wallOf(untilMs, now);
    this.#journal.note({ kind: "changed", queue: { group, topic, queueId }, offset, nonce, untilWallMs, invisibleMs });
    line.serve();
    return writeHandle({ queueId, offset, nonce });
  }

  async forwardToDeadLetters(group: string, topic: string, text: string): Promise<"ok" | "invalid"> {
    this.#mustWork();
    const line = this.#line(group, topic);
    const handle = readHandle(text);
    const found = line?.subscription.find(handle, this.#options.clock.monotonicMs());
    if (line === undefined || found === undefined) return "invalid";
    const { queueId, offset } = handle!;
    const { queue, held } = found;
    const { nonce, untilMs, invisibleMs } = held;
    const message = line.subscription.read(queueId, offset);
    if (message !== undefined) {
      // Nobody else gets it while it is being buried.
      queue.change(held, 0, Infinity, 0);
      try {
        await this.#options.rules.bury(group, message);
        reach("buried");
      } catch (error) {
        queue.change(held, nonce, untilMs, invisibleMs);
        line.serve();
        throw error;
      }
    }
    if (this.#line(group, topic) !== line) return "ok"; // forgotten meanwhile
    queue.done(offset);
    const durable = this.#journal.durable([{ kind: "done", queue: { group, topic, queueId }, offsets: [offset] }]);
    line.serve();
    await durable;
    return "ok";
  }

  progress(group: string, topic: string): Progress {
    return (this.#line(group, topic)?.subscription ?? this.#subscription(group, topic, [])).progress();
  }

  consumedUpTo(topic: string, queueId: number): number | undefined {
    let lowest: number | undefined;
    for (const { subscription } of this.#lines.get(topic)?.values() ?? []) {
      const doneUpTo = subscription.queue(queueId)?.doneUpTo;
      if (doneUpTo !== undefined) lowest = Math.min(lowest ?? doneUpTo, doneUpTo);
    }
    return lowest;
  }

  async forgetTopic(topic: string): Promise<void> {
    await this.#forget([...(this.#lines.get(topic)?.values() ?? [])]);
  }

  async forgetGroup(group: string): Promise<void> {
    await this.#forget([...this.#allLines()].filter(({ subscription }) => subscription.group === group));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#agenda.close();
    for (const line of this.#allLines()) line.close();
    await Promise.all(this.#burials);
    await this.#journal.close();
  }

  /**
   * Who waits is answered with nothing. What cannot be written is forgotten all the same: the messages may be gone by
   * now, and the snapshot that follows a failure says so.
   */
  async #forget(lines: readonly PollLine[]): Promise<void> {
    this.#mustBeOpen();
    for (const line of lines) {
      const { group, topic } = line.subscription;
      line.close();
      const lines = this.#lines.get(topic)!;
      lines.delete(group);
      if (lines.size === 0) this.#lines.delete(topic);
      this.#journal.book.forget(group, topic);
    }
    this.#journal.snapshot();
    await this.#journal.durable([]);
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new BrokerError(code.internalServerError, "the broker is stopping");
  }

  #mustWork(): void {
    this.#mustBeOpen();
    if (this.#journal.problem !== undefined) throw this.#journal.problem;
  }

  #buryInTime(line: PollLine, exhausted: Exhausted): void {
    const burial = this.#bury(line, exhausted).finally(() => this.#burials.delete(burial));
    this.#burials.add(burial);
  }

  async #bury(line: PollLine, { queueId, held, message }: Exhausted): Promise<void> {
    const { group, topic } = line.subscription;
    const { rules, log, clock } = this.#options;
    const { offset } = held;
    const queue = line.subscription.queue(queueId)!;
    try {
      await rules.bury(group, message);
      reach("buried");
    } catch (error) {
      log.warn({ group, topic, queueId, offset, err: error }, "a dead letter could not be stored, will try again");
      queue.change(held, 0, clock.monotonicMs() + buryAgainMs, buryAgainMs);
      line.serve();
      return;
    }
    if (this.#line(group, topic) !== line) return; // forgotten meanwhile
    queue.done(offset);
    this.#journal.note({ kind: "done", queue: { group, topic, queueId }, offsets: [offset] });
    line.serve();
  }

  #giveBack(line: PollLine, deliveries: readonly Delivery[]): void {
    const { group, topic } = line.subscription;
    if (this.#line(group, topic) !== line) return; // forgotten meanwhile
    for (const { message, handle } of deliveries) {
      const { queueId, queueOffset: offset } = message;
      // Its time may be over by now, and somebody else have it.
      const found = line.subscription.find(readHandle(handle), this.#options.clock.monotonicMs());
      if (found === undefined) continue;
      found.queue.giveBack(offset);
      this.#journal.note({ kind: "givenBack", queue: { group, topic, queueId }, offsets: [offset] });
    }
    line.serve();
  }

  /** A store that is not synced may have lost its end, and what it is given now has the offsets of what was lost. */
  #cutToStore(): void {
    const { store, log } = this.#options;
    let anyCut = false;
    for (const { subscription } of this.#allLines()) {
      const { group, topic } = subscription;
      for (const [queueId, queue] of subscription.queues.entries()) {
        const { next } = store.range(topic, queueId);
        if (queue === undefined || queue.next <= next) continue;
        log.warn(
          { group, topic, queueId, from: next, to: queue.next },
          "messages that a group had come to are no more",
        );
        queue.cutTo(next);
        anyCut = true;
      }
    }
    if (anyCut) this.#journal.snapshot();
  }

  #line(group: string, topic: string): PollLine | undefined {
    return this.#lines.get(topic)?.get(group);
  }

  #lineOrNew(group: string, topic: string): PollLine {
    let lines = this.#lines.get(topic);
    if (lines === undefined) {
      lines = new Map();
      this.#lines.set(topic, lines);
    }
    let line = lines.get(group);
    if (line === undefined) {
      const subscription = this.#subscription(group, topic, this.#journal.book.queues(group, topic));
      const made = new PollLine({
        subscription,
        journal: this.#journal,
        agenda: this.#agenda,
        timers: this.#options.timers,
        log: this.#options.log,
        onExhausted: (exhausted) => this.#buryInTime(made, exhausted),
      });
      line = made;
      lines.set(group, line);
    }
    return line;
  }

  #subscription(group: string, topic: string, queues: SubscriptionOptions["queues"]): Subscription {
    const { store, rules, random, log, limits = deliveryLimits } = this.#options;
    const note = this.#journal.note.bind(this.#journal);
    return new Subscription({ group, topic, store, rules, random, log, limits, queues, note });
  }

  *#allLines(): Iterable<PollLine> {
    for (const lines of this.#lines.values()) yield* lines.values();
  }
}

const checkInvisible = (invisibleMs: number): void => {
  if (invisibleMs >= 0 && invisibleMs <= invisibleMsMax) return;
  throw new BrokerError(
    code.badRequest,
    `the invisible duration is ${invisibleMs} ms; it must be 0 to ${invisibleMsMax}`,
  );
};
