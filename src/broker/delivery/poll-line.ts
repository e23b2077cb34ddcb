import { code } from "../../protocol/messaging-service.ts";
import type { Log } from "../../runtime/log.ts";
import type { Timers } from "../../runtime/timers.ts";
import { BrokerError } from "../broker-error.ts";
import type { Agenda, Appointment } from "./agenda.ts";
import type { Delivery, ReceiveRequest } from "./deliveries.port.ts";
import type { ProgressJournal } from "./progress-journal.ts";
import type { Subscription } from "./subscription.ts";
import type { Exhausted, Taken } from "./turn.ts";

/**
 * Those who wait for messages of one topic on behalf of one group: first come, first served. `serve` is called whenever
 * there may be something: a message has arrived, an invisibility has ended, the head of a message group is done, what
 * was taken has come back. While nobody waits it costs nothing.
 */
export type PollLineOptions = {
  readonly subscription: Subscription;
  readonly journal: ProgressJournal;
  readonly agenda: Agenda;
  readonly timers: Timers;
  readonly onExhausted: (exhausted: Exhausted) => void;
  readonly log: Log;
};

type Poll = Appointment & {
  readonly request: ReceiveRequest;
  readonly answer: (deliveries: readonly Delivery[] | Promise<never>) => void;
  isOver: boolean;
};

export class PollLine {
  readonly subscription: Subscription;
  readonly #options: PollLineOptions;
  readonly #polls = new Set<Poll>();
  /** For the nearest end of an invisibility, while somebody waits. */
  readonly #wake: Appointment = { place: -1, atMs: Infinity, keep: () => this.serve() };
  /** The look goes on in the next turn of the event loop; until then nobody is told that there is nothing. */
  #isLooking = false;

  constructor(options: PollLineOptions) {
    this.subscription = options.subscription;
    this.#options = options;
  }

  /** Ends with the first messages, when its time is over, or when `signal` aborts. */
  poll(request: ReceiveRequest, signal: AbortSignal): Promise<readonly Delivery[]> {
    return new Promise((resolve) => {
      const abort = () => this.#finish(poll, []);
      const poll: Poll = {
        place: -1,
        atMs: Infinity,
        isOver: false,
        request,
        answer: (deliveries) => {
          signal.removeEventListener("abort", abort);
          resolve(deliveries);
        },
        keep: () => this.#expire(poll),
      };
      this.#polls.add(poll);
      this.serve();
      if (!this.#polls.has(poll)) return;
      signal.addEventListener("abort", abort, { once: true });
      if (request.waitMs <= 0) this.#expire(poll);
      else this.#options.agenda.set(poll, this.#options.journal.now().monotonicMs + request.waitMs);
    });
  }

  /** Gives what there is to those who wait. */
  serve(): void {
    const { journal, timers, agenda, onExhausted } = this.#options;
    if (this.#isLooking || journal.problem !== undefined) return;
    for (const poll of this.#polls) {
      const taken = this.#take(poll);
      if (taken === undefined) return;
      const { deliveries, exhausted, more } = taken;
      for (const one of exhausted) onExhausted(one);
      if (more) {
        this.#isLooking = true;
        timers.after(0, () => this.#lookOn());
        return;
      }
      // When there is nothing for the first, there is nothing for those behind.
      if (deliveries.length === 0) break;
      this.#finish(poll, deliveries);
    }
    if (this.#polls.size > 0) agenda.set(this.#wake, this.subscription.nextReadyMs);
  }

  /** Undefined when the disk cannot be read; who waits is told, and may ask again. */
  #take({ request }: Poll): Taken | undefined {
    const { journal, log } = this.#options;
    const { group, topic } = this.subscription;
    try {
      return this.subscription.take(request, journal.now());
    } catch (error) {
      log.error({ group, topic, err: error }, "messages cannot be read, receive calls are refused");
      const reason = (error as NodeJS.ErrnoException).code ?? "unknown reason";
      const refusal = new BrokerError(code.internalServerError, `messages cannot be read (${reason}); try again`);
      for (const poll of this.#polls) this.#finish(poll, Promise.reject(refusal));
      return undefined;
    }
  }

  /** Nobody waits any more. */
  close(): void {
    for (const poll of this.#polls) this.#finish(poll, []);
  }

  #lookOn(): void {
    this.#isLooking = false;
    this.serve();
    if (this.#isLooking) return;
    for (const poll of this.#polls) if (poll.isOver) this.#finish(poll, []);
  }

  #expire(poll: Poll): void {
    if (this.#isLooking) poll.isOver = true;
    else this.#finish(poll, []);
  }

  #finish(poll: Poll, deliveries: readonly Delivery[] | Promise<never>): void {
    if (!this.#polls.delete(poll)) return;
    const { agenda } = this.#options;
    agenda.set(poll, Infinity);
    if (this.#polls.size === 0) agenda.set(this.#wake, Infinity);
    poll.answer(deliveries);
  }
}
