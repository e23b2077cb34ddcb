import { isEscapementError } from "../../src/message/errors.ts";
import type { MessageReply } from "../../src/wire/http.ts";
import type { Cluster, Process } from "./cluster.ts";
import type { Ledger, Operation } from "./ledger.ts";
import type { SimOptions } from "./options.ts";
import type { Prng } from "./prng.ts";
import { poison } from "./sim-sink.ts";
import type { IngestTopic } from "./sim-source.ts";
import { epochStartMs, type World } from "./world.ts";

/**
 * The clients: they schedule, cancel and reschedule over a network that may lose answers, and write down what they
 * wished and what they were told. A client that heard nothing asks again only where that is safe: with a key.
 */

const answerTimeoutMs = 4_000;
const triesMax = 6;

type Wish = Pick<Operation, "kind" | "content" | "key" | "group" | "onConflict" | "delayMs"> & {
  readonly request: Record<string, unknown>;
  readonly id?: string;
};

export class Clients {
  readonly #world: World;
  readonly #ledger: Ledger;
  readonly #options: SimOptions;
  readonly #cluster: Cluster;
  readonly #ingest: IngestTopic;
  readonly #random: Prng;
  lostAnswers = 0;
  /** Wishes that have not come to an end. */
  open = 0;
  #contents = 0;

  constructor(parts: { world: World; ledger: Ledger; options: SimOptions; cluster: Cluster; ingest: IngestTopic }) {
    this.#world = parts.world;
    this.#ledger = parts.ledger;
    this.#options = parts.options;
    this.#cluster = parts.cluster;
    this.#ingest = parts.ingest;
    this.#random = parts.world.random.fork("clients");
  }

  /** Spreads its wishes over the storm, in bursts as well as one by one. */
  start(fromMs: number): void {
    const { operations, ingestMessages, stormMs } = this.#options;
    const random = this.#random;
    let atMs = fromMs;
    for (let i = 0; i < operations; i++) {
      if (!random.chance(0.4)) atMs = fromMs + random.between(0, stormMs * 0.9);
      this.#world.at(atMs, undefined, () => this.#wish());
    }
    for (let i = 0; i < ingestMessages; i++) {
      this.#world.at(fromMs + random.between(0, stormMs * 0.9), undefined, () => this.#produce(i));
    }
  }

  #wish(): void {
    const random = this.#random;
    const choice = random.float();
    const known = this.#ledger.operations.filter(
      ({ kind, id, key }) => kind === "schedule" && (id ?? key) !== undefined,
    );
    const soon = known.filter(({ deliverAtMs }) => (deliverAtMs ?? 0) - epochStartMs > this.#world.nowMs + 5);
    if (choice < 0.2 && soon.length > 0) {
      // Just when it is due and on its way out is when it is interesting.
      const of = random.pick(soon);
      const atMs = of.deliverAtMs! - epochStartMs + random.between(-4, 6);
      const kind = random.pick(["cancel", "reschedule"] as const);
      if (atMs < this.#world.nowMs + 10_000) this.#world.at(atMs, undefined, () => this.#change(kind, of));
    } else if (choice < 0.26 && known.length > 0) this.#change("cancel", random.pick(known.slice(-12)));
    else if (choice < 0.32 && known.length > 0) this.#change("reschedule", random.pick(known.slice(-12)));
    else if (choice < 0.45) {
      const count = random.whole(2, 8);
      for (let i = 0; i < count; i++) this.#schedule();
    } else this.#schedule();
  }

  #schedule(): void {
    const random = this.#random;
    const { keys, groups, far, troubles } = this.#options;
    const number = ++this.#contents;
    const content = troubles.poison && random.chance(0.05) ? `${poison}${number}` : `m${number}`;
    const group = random.chance(0.3) ? `g${random.whole(1, groups)}` : undefined;
    const key = random.chance(0.45) ? `k${random.whole(1, keys)}` : undefined;
    const onConflict = key !== undefined && random.chance(0.4) ? "replace" : undefined;
    const delayMs = this.#delayMs(far);
    const absolute = random.chance(0.3);
    const request: Record<string, unknown> = {
      topic: group !== undefined ? "fifo" : random.pick(["orders", "orders", "mails"]),
      body: content,
      ...(absolute ? { deliverAt: Math.floor(epochStartMs + this.#world.nowMs) + delayMs } : { delay: delayMs }),
      ...(key === undefined ? {} : { key }),
      ...(onConflict === undefined ? {} : { onConflict }),
      ...(group === undefined ? {} : { messageGroup: group }),
      ...(random.chance(0.12) ? { expireAfter: random.whole(20, 3_000) } : {}),
      ...(random.chance(0.8)
        ? {
            retry: {
              maxAttempts: random.chance(0.2) ? random.whole(1, 3) : random.whole(10, 40),
              initial: random.whole(20, 500),
              max: random.whole(500, 1_500),
              multiplier: random.pick([1, 1.5, 2]),
            },
          }
        : {}),
    };
    this.#ask(
      {
        kind: "schedule",
        content,
        key,
        group,
        onConflict: key === undefined ? undefined : (onConflict ?? "keep"),
        delayMs: absolute ? undefined : delayMs,
        request,
      },
      undefined,
      1,
    );
  }

  #delayMs(far: boolean): number {
    const random = this.#random;
    const choice = random.float();
    if (far && choice < 0.1) return random.whole(3_600_000, 20_000_000);
    if (choice < 0.2) return 0;
    if (choice < 0.5) return random.whole(1, 1_500);
    // Around the edge of the near window, where loader and wakes meet.
    if (choice < 0.75) return random.whole(2_500, 4_500);
    return random.whole(0, 8_000);
  }

  #change(kind: "cancel" | "reschedule", of: Operation): void {
    const random = this.#random;
    const content = kind === "reschedule" && random.chance(0.4) ? `m${++this.#contents}` : undefined;
    const delayMs = kind === "reschedule" ? this.#delayMs(false) : undefined;
    const request = { delay: delayMs, ...(content === undefined ? {} : { body: content }) };
    const { key, group, id } = of;
    const byId = id !== undefined && (key === undefined || random.chance(0.5));
    this.#ask(
      {
        kind,
        content,
        key: byId ? undefined : key,
        group,
        onConflict: undefined,
        delayMs,
        request,
        ...(byId ? { id } : {}),
      },
      undefined,
      1,
    );
  }

  #ask(wish: Wish, retryOf: Operation | undefined, tries: number): void {
    if (tries === 1) this.open++;
    const process = this.#pickProcess();
    if (process === undefined) {
      this.#again(wish, retryOf, tries);
      return;
    }
    const operation: Operation = {
      number: this.#ledger.operations.length + 1,
      kind: wish.kind,
      node: process.node,
      startedMs: this.#world.nowMs,
      content: wish.content,
      key: wish.key,
      group: wish.group,
      onConflict: wish.onConflict,
      delayMs: wish.delayMs,
      retryOf,
      id: wish.id,
      answeredMs: undefined,
      answer: undefined,
      deliverAtMs: undefined,
      deduplicated: false,
    };
    this.#ledger.operations.push(operation);
    const words = JSON.stringify(wish.request);
    const name = wish.id ?? (wish.key === undefined ? "" : `key ${wish.key} group ${wish.group ?? "none"}`);
    const idsKnown = wish.id === undefined ? [] : [wish.id];
    this.#world.trace.say(
      `client ${operation.number}`,
      `asks ${process.node.name} to ${wish.kind} ${name} ${words}`,
      idsKnown,
    );

    let isOver = false;
    const hear = (answer: string | undefined, reply: MessageReply | undefined): void => {
      if (isOver) return;
      isOver = true;
      operation.answer = answer;
      if (answer !== undefined) operation.answeredMs = this.#world.nowMs;
      if (reply !== undefined) {
        operation.id = reply.id;
        operation.deliverAtMs = Date.parse(reply.deliverAt);
        operation.deduplicated = reply.deduplicated;
      }
      const told = reply === undefined ? (answer ?? "nothing") : `${answer}, ${reply.state}`;
      this.#world.trace.say(
        `client ${operation.number}`,
        `(${wish.content ?? wish.kind}) hears ${told}`,
        operation.id === undefined ? [] : [operation.id],
      );
      // The world's own trouble: whether it took effect is unknown. All but a first, keyless schedule may be repeated.
      const isUnknown = answer === undefined || answer === "store_unavailable" || answer === "internal";
      const isRefused = [
        "store_refusing",
        "store_full",
        "overloaded",
        "shutting_down",
        "topic_unverified",
        "not connected",
      ].includes(answer ?? "");
      const isSafe = wish.kind !== "schedule" || wish.key !== undefined;
      if (isRefused || (isUnknown && isSafe)) this.#again(wish, retryOf ?? operation, tries);
      else this.open--;
    };
    this.#world.after(answerTimeoutMs, undefined, () => hear(undefined, undefined));
    if (!process.node.alive) return;
    this.#world.after(this.#random.between(0.1, 0.5), process.node, () => {
      const work = this.#call(process, wish);
      process.requests.add(work);
      const answer = (text: string, reply?: MessageReply): void => {
        process.requests.delete(work);
        if (this.#random.chance(this.lostAnswers)) return;
        this.#world.after(this.#random.between(0.1, 0.5), undefined, () => hear(text, reply));
      };
      work.then(
        (reply) => answer("done", reply),
        (error: unknown) => {
          if (isEscapementError(error)) answer(error.code);
          else {
            this.#ledger.seen.push({ rule: "bug answered", text: `${wish.kind}: ${(error as Error).stack}`, ids: [] });
            answer("internal");
          }
        },
      );
    });
  }

  #call(process: Process, wish: Wish): Promise<MessageReply> {
    const { intake } = process.service;
    if (wish.kind === "schedule") return intake.schedule(wish.request, "default");
    const ref =
      wish.id !== undefined
        ? { id: wish.id }
        : { key: wish.key!, ...(wish.group === undefined ? {} : { messageGroup: wish.group }) };
    return wish.kind === "cancel" ? intake.cancel(ref, "default") : intake.reschedule(ref, wish.request, "default");
  }

  #again(wish: Wish, retryOf: Operation | undefined, tries: number): void {
    if (tries >= triesMax) {
      this.open--;
      return;
    }
    this.#world.after(this.#random.between(50, 600), undefined, () => this.#ask(wish, retryOf, tries + 1));
  }

  #pickProcess(): Process | undefined {
    const { answering, running } = this.#cluster;
    const from = answering.length > 0 ? answering : running.filter(({ isReady }) => isReady);
    return from.length === 0 ? undefined : this.#random.pick(from);
  }

  #produce(number: number): void {
    const random = this.#random;
    const properties = new Map([
      ["ESC_TOPIC", random.chance(0.1) ? "no-such-topic" : random.pick(["orders", "mails"])],
      random.chance(0.08) ? ["ESC_DELAY", "soon"] : ["ESC_DELAY", String(this.#delayMs(false))],
    ] as [string, string][]);
    if (random.chance(0.2)) properties.set("ESC_KEY", `ik${random.whole(1, 3)}`);
    const name = `in${number}`;
    this.#world.trace.note("producer", `sends ${name} to the ingest topic: ${JSON.stringify([...properties])}`);
    this.#ledger.produced.push({ name, hasKey: properties.has("ESC_KEY") });
    this.#ingest.produce(name, properties);
  }
}
