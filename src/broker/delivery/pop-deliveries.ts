import { code } from "../../protocol/messaging-service.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Log } from "../../runtime/log.ts";
import type { Random } from "../../runtime/random.ts";
import type { Timers } from "../../runtime/timers.ts";
import { BrokerError } from "../broker-error.ts";
import type { AppendLog } from "../storage/append-log.port.ts";
import type { MessageStore } from "../storage/message-store.port.ts";
import { Agenda, type Appointment } from "./agenda.ts";
import type { Deliveries, Delivery, DeliveryRules, Progress, ReceiveRequest } from "./deliveries.port.ts";
import { wallOf } from "./progress-book.ts";
import { ProgressJournal } from "./progress-journal.ts";
import { readHandle, writeHandle } from "./receipt-handle.ts";
import { Subscription, type SubscriptionOptions } from "./subscription.ts";
import { type DeliveryLimits, deliveryLimits, type Exhausted } from "./turn.ts";

/**
 * Pop, acknowledge, change invisibility, long polls: the rooms of this folder joined. Everything happens in memory at
 * once and in order; only answers wait.
 *
 * Polls of one group and topic wait in one line, first come, first served. They are looked at when a message arrives,
 * when an invisibility ends, when a message group's head is done, and when what was taken comes back.
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

/** When the dead-letter topic could not take a message. */
const buryAgainMs = 1_000;

/** The polls that wait for one group and topic. */
type Line = {
  readonly subscription: Subscription;
  readonly polls: Set<Poll>;
  /** For the nearest end of an invisibility, while somebody waits. */
  readonly wake: Appointment;
  /** The look goes on in the next turn of the event loop; until then nobody is told that there is nothing. */
  isLooking: boolean;
};
type Poll = Appointment & {
  readonly request: ReceiveRequest;
  readonly answer: (deliveries: readonly Delivery[]) => void;
  isOver: boolean;
};

export class PopDeliveries implements Deliveries {
  readonly #options: PopDeliveriesOptions;
  readonly #journal: ProgressJournal;
  readonly #agenda: Agenda;
  /** By topic, then group. */
  readonly #lines = new Map<string, Map<string, Line>>();
  #closed = false;

  /** Reads the journal. @throws Error when it holds what this version cannot read. */
  constructor(options: PopDeliveriesOptions) {
    const { journal, clock, timers, log, store } = options;
    this.#options = options;
    this.#agenda = new Agenda(timers, () => clock.monotonicMs());
    this.#journal = new ProgressJournal({ log: journal, clock, timers, eventLog: log });
    this.#journal.onRepaired = () => this.#serveAll();
    for (const { group, topic } of this.#journal.book.subscriptions) this.#lineOrNew(group, topic);
    this.#cutToStore();
    store.onAppended((topic) => {
      for (const line of this.#lines.get(topic)?.values() ?? []) if (line.polls.size > 0) this.#serve(line);
    });
  }

  async receive(request: ReceiveRequest, signal: AbortSignal): Promise<readonly Delivery[]> {
    this.#mustWork();
    if (signal.aborted) return [];
    const line = this.#lineOrNew(request.group, request.topic);
    const deliveries = await this.#poll(line, request, signal);
    if (!signal.aborted || deliveries.length === 0) return deliveries;
    this.#giveBack(line, deliveries);
    return [];
  }

  async acknowledge(group: string, topic: string, handles: readonly string[]): Promise<readonly ("ok" | "invalid")[]> {
    this.#mustWork();
    const line = this.#line(group, topic);
    const nowMs = this.#options.clock.monotonicMs();
    const done = new Map<number, number[]>();
    const results = handles.map((text) => {
      const handle = readHandle(text);
      const found = line?.subscription.find(handle, nowMs);
      if (found === undefined) return "invalid";
      found.queue.done(found.held.offset);
      const offsets = done.get(handle!.queueId);
      if (offsets === undefined) done.set(handle!.queueId, [found.held.offset]);
      else offsets.push(found.held.offset);
      return "ok";
    });
    if (line === undefined || done.size === 0) return results;
    const durable = this.#journal.durable(
      Array.from(done, ([queueId, offsets]) => ({ kind: "done", queue: { group, topic, queueId }, offsets })),
    );
    // The next of a message group may go out now. If power fails before this is on the disk, both come again, in order.
    this.#serve(line);
    await durable;
    return results;
  }

  async changeInvisible(group: string, topic: string, text: string, invisibleMs: number): Promise<string | undefined> {
    this.#mustWork();
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
    this.#serve(line);
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
      } catch (error) {
        queue.change(held, nonce, untilMs, invisibleMs);
        this.#serve(line);
        throw error;
      }
    }
    if (this.#line(group, topic) !== line) return "ok"; // forgotten meanwhile
    queue.done(offset);
    const durable = this.#journal.durable([{ kind: "done", queue: { group, topic, queueId }, offsets: [offset] }]);
    this.#serve(line);
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

  /** The topic is no more: what groups have done with it is forgotten, and who waits for it is answered. */
  async forgetTopic(topic: string): Promise<void> {
    await this.#forget([...(this.#lines.get(topic)?.values() ?? [])]);
  }

  /** The group is no more; one of that name that comes later begins anew. */
  async forgetGroup(group: string): Promise<void> {
    await this.#forget([...this.#allLines()].filter(({ subscription }) => subscription.group === group));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#agenda.close();
    for (const line of this.#allLines()) for (const poll of line.polls) this.#finish(line, poll, []);
    await this.#journal.close();
  }

  async #forget(lines: readonly Line[]): Promise<void> {
    this.#mustWork();
    for (const line of lines) {
      const { group, topic } = line.subscription;
      for (const poll of line.polls) this.#finish(line, poll, []);
      this.#lines.get(topic)!.delete(group);
      this.#journal.book.forget(group, topic);
    }
    this.#journal.snapshot();
    await this.#journal.durable([]);
  }

  #mustWork(): void {
    if (this.#closed) throw new BrokerError(code.internalServerError, "the broker is stopping");
    if (this.#journal.problem !== undefined) throw this.#journal.problem;
  }

  #poll(line: Line, request: ReceiveRequest, signal: AbortSignal): Promise<readonly Delivery[]> {
    return new Promise((resolve) => {
      const abort = () => this.#finish(line, poll, []);
      const poll: Poll = {
        place: -1,
        atMs: Infinity,
        isOver: false,
        request,
        answer: (deliveries) => {
          signal.removeEventListener("abort", abort);
          resolve(deliveries);
        },
        keep: () => this.#expire(line, poll),
      };
      line.polls.add(poll);
      this.#serve(line);
      if (!line.polls.has(poll)) return;
      signal.addEventListener("abort", abort, { once: true });
      if (request.waitMs <= 0) this.#expire(line, poll);
      else this.#agenda.set(poll, this.#options.clock.monotonicMs() + request.waitMs);
    });
  }

  #expire(line: Line, poll: Poll): void {
    if (line.isLooking) poll.isOver = true;
    else this.#finish(line, poll, []);
  }

  #finish(line: Line, poll: Poll, deliveries: readonly Delivery[]): void {
    if (!line.polls.delete(poll)) return;
    this.#agenda.set(poll, Infinity);
    if (line.polls.size === 0) this.#agenda.set(line.wake, Infinity);
    poll.answer(deliveries);
  }

  /** Gives what there is to those who wait. */
  #serve(line: Line): void {
    if (line.isLooking || this.#journal.problem !== undefined) return;
    for (const poll of line.polls) {
      const { deliveries, exhausted, more } = line.subscription.take(poll.request, this.#journal.now());
      for (const one of exhausted) void this.#bury(line, one);
      if (more) {
        line.isLooking = true;
        this.#options.timers.after(0, () => this.#lookOn(line));
        return;
      }
      // When there is nothing for the first, there is nothing for those behind.
      if (deliveries.length === 0) break;
      this.#finish(line, poll, deliveries);
    }
    if (line.polls.size > 0) this.#agenda.set(line.wake, line.subscription.nextReadyMs);
  }

  #lookOn(line: Line): void {
    line.isLooking = false;
    this.#serve(line);
    if (line.isLooking) return;
    for (const poll of line.polls) if (poll.isOver) this.#finish(line, poll, []);
  }

  #serveAll(): void {
    for (const line of this.#allLines()) if (line.polls.size > 0) this.#serve(line);
  }

  async #bury(line: Line, { queueId, held, message }: Exhausted): Promise<void> {
    const { group, topic } = line.subscription;
    const { rules, log, clock } = this.#options;
    const { offset } = held;
    const queue = line.subscription.queue(queueId)!;
    try {
      await rules.bury(group, message);
    } catch (error) {
      log.warn({ group, topic, queueId, offset, err: error }, "a dead letter could not be stored, will try again");
      queue.change(held, 0, clock.monotonicMs() + buryAgainMs, buryAgainMs);
      this.#serve(line);
      return;
    }
    log.info(
      { group, topic, queueId, offset, attempts: held.attempt },
      "attempts are used up, message is a dead letter",
    );
    queue.done(offset);
    this.#journal.note({ kind: "done", queue: { group, topic, queueId }, offsets: [offset] });
    this.#serve(line);
  }

  #giveBack(line: Line, deliveries: readonly Delivery[]): void {
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
    this.#serve(line);
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

  #line(group: string, topic: string): Line | undefined {
    return this.#lines.get(topic)?.get(group);
  }

  #lineOrNew(group: string, topic: string): Line {
    let lines = this.#lines.get(topic);
    if (lines === undefined) {
      lines = new Map();
      this.#lines.set(topic, lines);
    }
    let line = lines.get(group);
    if (line === undefined) {
      const wake: Appointment = { place: -1, atMs: Infinity, keep: () => this.#serve(made) };
      const subscription = this.#subscription(group, topic, this.#journal.book.queues(group, topic));
      const made: Line = { subscription, polls: new Set(), wake, isLooking: false };
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

  *#allLines(): Iterable<Line> {
    for (const lines of this.#lines.values()) yield* lines.values();
  }
}
