import { setTimeout as pause } from "node:timers/promises";
import type { CallResult, HttpCaller } from "./http-caller.ts";
import type { Entry, Intent, Ledger, LedgerQueue, Reply } from "./ledger.ts";
import type { PlannedMessage } from "./load-plan.ts";
import type { SeededRandom } from "./seeded-random.ts";
import type { TopicDoor } from "./topic-door.ts";

/**
 * Drives a plan against the servers at a steady rate. Every tick's intents are on disk before their requests leave.
 *
 * What is tried again: a refusal always (nothing was stored), `unknown` only with a key (then it is safe, P5). Without
 * a key `unknown` stays unknown: the message may come once or not at all, and both are right.
 */
export type LoadParts = {
  readonly http: HttpCaller;
  readonly door: TopicDoor | undefined;
  readonly ledger: Ledger;
  readonly later: LedgerQueue;
  readonly random: SeededRandom;
  readonly topics: { readonly normal: string; readonly fifo: string };
  /** Ports of the servers that should be asked, in any order. */
  readonly ports: () => readonly number[];
};

const tickMs = 20;
const batchMax = 25;
const triesMax = 40;
const retryMs = 150;

export class Load {
  readonly #parts: LoadParts;
  readonly #changes: Promise<void>[] = [];
  #turn = 0;
  #isEnough = false;
  #begun = 0;
  #accepted = 0;
  /** When all are due together; otherwise each after its own delay. */
  #allDueMs: number | undefined;

  constructor(parts: LoadParts) {
    this.#parts = parts;
  }

  /** Messages whose sending has begun. */
  get begun(): number {
    return this.#begun;
  }

  get accepted(): number {
    return this.#accepted;
  }

  /** Nothing more of the plan is begun. */
  enough(): void {
    this.#isEnough = true;
  }

  /** Resolves when every message has its final reply and every change was made. */
  async run(plan: readonly PlannedMessage[], ratePerSecond: number, allDueMs?: number): Promise<void> {
    this.#allDueMs = allDueMs;
    const startedMs = performance.now();
    const underWay: Promise<void>[] = [];
    while (this.#begun < plan.length && !this.#isEnough) {
      const target = Math.min(
        plan.length,
        Math.ceil(((performance.now() - startedMs + tickMs) / 1000) * ratePerSecond),
      );
      if (target > this.#begun) {
        underWay.push(...this.#send(plan.slice(this.#begun, target)));
        this.#begun = target;
      }
      await pause(tickMs);
    }
    await Promise.all(underWay);
    await Promise.all(this.#changes);
  }

  #send(messages: readonly PlannedMessage[]): Promise<void>[] {
    const { ledger, topics } = this.#parts;
    const nowMs = Date.now();
    const intents = messages.map(
      (message): Intent => ({
        kind: "intent",
        serial: message.serial,
        atMs: nowMs,
        door: message.door,
        topic: message.group === undefined ? topics.normal : topics.fifo,
        dueMs: this.#allDueMs ?? nowMs + message.delayMs,
        crc: message.crc,
        ...(message.key === undefined ? undefined : { key: message.key }),
        ...(message.group === undefined ? undefined : { group: message.group }),
      }),
    );
    ledger.write(intents);
    const both = messages.map((message, i): Sending => ({ message, intent: intents[i]! }));
    const batched = both.filter(({ message }) => message.door === "batch");
    const sent = both
      .filter(({ message }) => message.door !== "batch")
      .map((one) => (one.message.door === "topic" ? this.#byTopic(one) : this.#single(one)));
    for (let from = 0; from < batched.length; from += batchMax)
      sent.push(this.#batch(batched.slice(from, from + batchMax)));
    return sent;
  }

  async #byTopic({ message, intent }: Sending): Promise<void> {
    const { door } = this.#parts;
    if (door === undefined) throw new Error("this load has no topic door");
    const { ok, why } = await door.send(message, intent.topic, intent.dueMs);
    this.#note({
      serial: message.serial,
      outcome: ok ? "accepted" : "unknown",
      ...(why === undefined ? {} : { code: why }),
    });
  }

  async #single(sending: Sending, triesLeft = triesMax): Promise<void> {
    const { message } = sending;
    for (let tries = triesLeft; tries > 0; tries--) {
      const port = this.#nextPort();
      const result =
        port === undefined ? notSent : await this.#parts.http.call(port, "POST", "/v1/messages", requestOf(sending));
      const reply = replyOf(message.serial, result);
      if (result.end !== "not_sent") this.#note(reply);
      if (reply.outcome === "accepted") {
        this.#planChange(sending, reply.id!);
        if (message.repeated) await this.#repeat(sending);
        return;
      }
      if (reply.outcome === "unknown" && message.key === undefined) return;
      if (reply.outcome === "refused" && result.end === "answer" && result.status < 500 && result.status !== 429)
        return;
      await pause(retryMs);
    }
  }

  async #repeat(sending: Sending): Promise<void> {
    const port = this.#nextPort();
    if (port === undefined) return;
    const reply = replyOf(
      sending.message.serial,
      await this.#parts.http.call(port, "POST", "/v1/messages", requestOf(sending)),
    );
    if (reply.outcome === "accepted") this.#note(reply);
  }

  async #batch(sendings: readonly Sending[]): Promise<void> {
    const port = this.#nextPort();
    const result =
      port === undefined
        ? notSent
        : await this.#parts.http.call(port, "POST", "/v1/messages/batch", sendings.map(requestOf));
    const items = result.end === "answer" && result.status === 200 ? (result.body as BatchBody).results : undefined;
    await Promise.all(
      sendings.map(async (sending, i) => {
        const { message } = sending;
        const item = items?.[i];
        const reply =
          items === undefined
            ? replyOf(message.serial, result)
            : item?.message !== undefined
              ? acceptedReply(message.serial, item.message)
              : errorReply(message.serial, item?.error);
        if (result.end !== "not_sent") this.#note(reply);
        if (reply.outcome === "accepted") {
          this.#planChange(sending, reply.id!);
          return;
        }
        // From here on alone, as a program would do with the items that failed.
        if (reply.outcome === "refused" || message.key !== undefined) {
          await pause(retryMs);
          await this.#single(sending, triesMax - 1);
        }
      }),
    );
  }

  #planChange({ message, intent }: Sending, id: string): void {
    const { change } = message;
    if (change === undefined) return;
    const leftMs = Math.max(0, intent.dueMs - Date.now());
    const inMs = change.afterDueMs === undefined ? leftMs * change.atShare : leftMs + change.afterDueMs;
    this.#changes.push(
      pause(Math.max(0, inMs)).then(() => {
        const dueMs = change.verb === "reschedule" ? intent.dueMs + change.byMs : undefined;
        return this.change(message.serial, id, change.verb, dueMs);
      }),
    );
  }

  /** One cancel or reschedule, with its intent before and its reply after. */
  async change(serial: number, id: string, verb: "cancel" | "reschedule", dueMs?: number): Promise<void> {
    const { http, later, ledger } = this.#parts;
    const port = this.#nextPort();
    if (port === undefined) return;
    ledger.write([{ kind: "change", serial, atMs: Date.now(), verb, ...(dueMs === undefined ? {} : { dueMs }) }]);
    const path = `/v1/messages/${id}`;
    const result =
      verb === "cancel"
        ? await http.call(port, "DELETE", path)
        : await http.call(port, "PATCH", path, { deliverAt: dueMs });
    later.push({ kind: "changed", serial, atMs: Date.now(), verb, ...changeOutcome(result) });
  }

  /** Codes of refusals so far, with how often each came. */
  readonly refusals = new Map<string, number>();

  #note(reply: Omit<Reply, "kind" | "atMs">): void {
    if (reply.outcome === "refused") this.refusals.set(reply.code!, (this.refusals.get(reply.code!) ?? 0) + 1);
    if (reply.outcome === "accepted" && reply.deduplicated !== true) this.#accepted++;
    this.#parts.later.push({ kind: "reply", atMs: Date.now(), ...reply });
  }

  #nextPort(): number | undefined {
    const ports = this.#parts.ports();
    return ports.length === 0 ? undefined : ports[this.#turn++ % ports.length];
  }
}

type Sending = { readonly message: PlannedMessage; readonly intent: Intent };
type AcceptBody = { readonly id: string; readonly deduplicated: boolean };
type BatchBody = {
  readonly results: readonly { readonly message?: AcceptBody; readonly error?: { readonly code: string } }[];
};
type ReplyFacts = Omit<Reply, "kind" | "atMs">;

const notSent: CallResult = { end: "not_sent" };

export const requestOf = ({ message, intent }: Sending): object => ({
  topic: intent.topic,
  bodyBase64: message.body.toString("base64"),
  properties: message.properties,
  deliverAt: intent.dueMs,
  ...(message.key === undefined ? undefined : { key: message.key }),
  ...(message.group === undefined ? undefined : { messageGroup: message.group }),
});

const replyOf = (serial: number, result: CallResult): ReplyFacts => {
  if (result.end === "not_sent") return { serial, outcome: "refused", code: "nobody_listens" };
  if (result.end === "no_answer") return { serial, outcome: "unknown", code: result.why };
  if (result.status === 200 || result.status === 201 || result.status === 202) {
    return acceptedReply(serial, result.body as AcceptBody);
  }
  return errorReply(serial, result.body as { code: string });
};

const acceptedReply = (serial: number, { id, deduplicated }: AcceptBody): ReplyFacts => ({
  serial,
  outcome: "accepted",
  id,
  ...(deduplicated ? { deduplicated } : undefined),
});

/** The one code that leaves it open; all others say that nothing was stored. */
const unknownCode = "store_unavailable";

const errorReply = (serial: number, error: { readonly code: string } | undefined): ReplyFacts => ({
  serial,
  outcome: error === undefined || error.code === unknownCode ? "unknown" : "refused",
  code: error?.code ?? "no_result",
});

const changeOutcome = (
  result: CallResult,
): { outcome: Extract<Entry, { kind: "changed" }>["outcome"]; code?: string } => {
  if (result.end === "not_sent") return { outcome: "refused", code: "nobody_listens" };
  if (result.end === "no_answer") return { outcome: "unknown", code: result.why };
  if (result.status === 200) return { outcome: "done" };
  const { code } = result.body as { code: string };
  if (code === "too_late" || code === "not_found") return { outcome: code };
  return { outcome: code === unknownCode ? "unknown" : "refused", code };
};
