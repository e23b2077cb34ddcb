import { EscapementError } from "../../message/errors.ts";
import type { Timers } from "../../runtime/timers.ts";
import type { EngineLink, LinkEnds } from "./engine-link.ts";
import { Parcel } from "./parcel.ts";
import type { Answers, Post, PostReply, Request, Verb } from "./requests.ts";

/**
 * Gathers what is asked in one turn of the event loop into one post to the engine, and hands out the answers. It does
 * not wait for company: what is asked while a commit is at work goes out in its own turn and meets at the engine.
 */
export class Desk {
  readonly #timers: Timers;
  readonly #clockMs: () => number;
  #link: EngineLink | undefined;
  #requests: Request[] = [];
  #asked: Asked[] = [];
  #parcel: Parcel | undefined;
  /** Posts that are not answered. */
  readonly #posted: (readonly Asked[])[] = [];
  /** Why nothing can be asked any more. */
  #closed: EscapementError | undefined;
  #closing: Promise<void> | undefined;

  static async open(
    connect: (ends: LinkEnds) => EngineLink | Promise<EngineLink>,
    options: { readonly timers: Timers; readonly clockMs: () => number },
  ): Promise<Desk> {
    const desk = new Desk(options);
    desk.#link = await connect({
      onReply: (reply) => desk.#answer(reply),
      onBroken: (error) => desk.#break(error),
    });
    return desk;
  }

  private constructor({ timers, clockMs }: { readonly timers: Timers; readonly clockMs: () => number }) {
    this.#timers = timers;
    this.#clockMs = clockMs;
  }

  /** What the next `ask` of this turn wants to have travel with it. */
  get parcel(): Parcel {
    this.#parcel ??= new Parcel(parcelBytes);
    return this.#parcel;
  }

  /**
   * `take` makes the answer out of what came back, with the bytes of its parcel; wakes are at `wakes` in them. Rejects
   * with an EscapementError.
   */
  ask<V extends Verb, T>(request: Request & { readonly verb: V }, take: Take<Answers[V], T>): Promise<T> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    return new Promise<T>((resolve, reject) => {
      this.#requests.push(request);
      // What a request gives is handed back to it alone, so the desk need not know its type.
      this.#asked.push({ take: take as Take<unknown, unknown>, resolve: resolve as (value: unknown) => void, reject });
      if (this.#requests.length === 1) this.#timers.after(0, () => this.#post());
    });
  }

  /** Everything asked before is answered; what comes after is refused. */
  close(): Promise<void> {
    if (this.#closing === undefined) {
      this.#post();
      this.#closed ??= new EscapementError("store_unavailable", "the store is closed");
      this.#closing = this.#link!.close();
    }
    return this.#closing;
  }

  #post(): void {
    if (this.#requests.length === 0) return;
    const post: Post = { requests: this.#requests, parcel: this.parcel.buffer, clockMs: this.#clockMs() };
    this.#posted.push(this.#asked);
    this.#requests = [];
    this.#asked = [];
    this.#parcel = undefined;
    this.#link!.post(post);
  }

  #answer({ replies, parcel }: PostReply): void {
    const bytes = Buffer.from(parcel);
    for (const [i, { take, resolve, reject }] of this.#posted.shift()!.entries()) {
      const reply = replies[i]!;
      if ("error" in reply) {
        reject(new EscapementError(reply.error.code, reply.error.message));
        continue;
      }
      try {
        resolve(take(reply.value, bytes, reply.wakes));
      } catch (error) {
        reject(error);
      }
    }
  }

  /** Whether what is under way took effect is unknown. */
  #break(error: EscapementError): void {
    this.#closed ??= error;
    for (const { reject } of [...this.#posted.splice(0).flat(), ...this.#asked.splice(0)]) reject(error);
    this.#requests = [];
  }
}

export type Take<A, T> = (
  answer: A,
  bytes: Buffer,
  wakes: { readonly start: number; readonly count: number } | undefined,
) => T;

type Asked = {
  readonly take: Take<unknown, unknown>;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
};

/** Holds some twenty ordinary messages; what is larger makes it grow. */
const parcelBytes = 8 * 1024;
