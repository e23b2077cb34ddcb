import type { BrokerMessage, StoredMessage } from "../../src/broker/broker-message.ts";
import type { QueueEntry } from "../../src/broker/storage/message-store.port.ts";
import { tagHash } from "../../src/broker/storage/message-store.port.ts";

/**
 * What was sent and what became of it, as far as a producer can know. The checks compare what the store shows with it.
 *
 *   sent ──> stored     acknowledged at this offset, or seen there after a start, which is as good
 *        ──> refused    told that nothing was stored
 *        ──> unknown    no answer, or "unknown"; may be there or not, once, whole
 */
export type Fate = "sent" | "stored" | "refused" | "unknown";

export type Sent = {
  readonly number: number;
  readonly topic: string;
  readonly queueId: number;
  readonly message: BrokerMessage;
  fate: Fate;
  /** Where it must be; of a stored one. */
  offset: number;
  ackedAtMs: number;
  /** Its bytes in the commit log, once known. */
  entry: QueueEntry | undefined;
  /** A bit of it was flipped: it may be missing, but not be wrong. */
  damaged: boolean;
  /** Retention may remove it; its offset stays taken. */
  old: boolean;
  /** Its topic was deleted. */
  gone: boolean;
};

export type Violation = { readonly rule: string; readonly text: string };

export class Ledger {
  readonly sent: Sent[] = [];
  readonly violations: Violation[] = [];

  add(topic: string, queueId: number, messages: readonly BrokerMessage[]): readonly Sent[] {
    const added = messages.map((message, i) => ({
      number: this.sent.length + i,
      topic,
      queueId,
      message,
      fate: "sent" as const,
      offset: -1,
      ackedAtMs: 0,
      entry: undefined,
      damaged: false,
      old: false,
      gone: false,
    }));
    this.sent.push(...added);
    return added;
  }

  broken(rule: string, text: string): void {
    this.violations.push({ rule, text });
  }

  /** Holds one queue as the store shows it against what was sent to it. */
  check(
    topic: string,
    queueId: number,
    shown: {
      first: number;
      next: number;
      entries: readonly QueueEntry[];
      read: (entry: QueueEntry) => StoredMessage | undefined;
    },
    when: string,
  ): void {
    const mine = this.sent.filter((sent) => sent.topic === topic && sent.queueId === queueId && !sent.gone);
    const byNumber = new Map(mine.map((sent) => [sent.number, sent]));
    const where = `${topic}/${queueId} ${when}`;
    if (shown.entries.length !== shown.next - shown.first) {
      this.broken(
        "offsets count without gaps",
        `${where}: ${shown.entries.length} entries for ${shown.first} to ${shown.next}`,
      );
    }
    let before = -1;
    const seen = new Set<number>();
    for (const [i, entry] of shown.entries.entries()) {
      if (entry.queueOffset !== shown.first + i) this.broken("offsets count without gaps", `${where}: entry ${i}`);
      const message = shown.read(entry);
      if (message === undefined) continue;
      const number = Number(message.messageId);
      const sent = byNumber.get(number);
      const at = `${where}: message ${number} at offset ${entry.queueOffset}`;
      if (sent === undefined) {
        this.broken("a queue shows only what was sent to it", at);
        continue;
      }
      if (seen.has(number)) this.broken("nothing appears twice", at);
      seen.add(number);
      if (sent.fate === "refused") this.broken("what was refused is not stored", at);
      if (number < before) this.broken("messages are in the order in which they were sent", `${at} after ${before}`);
      before = Math.max(before, number);
      this.#sameBytes(sent, message, entry, at);
      if (sent.fate === "stored" && sent.offset !== entry.queueOffset) {
        this.broken("offsets do not change", `${at}, was at ${sent.offset}`);
      }
      // Who has seen it may rely on it from now on.
      if (sent.fate === "unknown") sent.fate = "stored";
      if (sent.fate === "stored") Object.assign(sent, { offset: entry.queueOffset, entry });
    }
    for (const sent of mine) {
      if (sent.fate !== "stored" || sent.damaged) continue;
      if (sent.offset >= shown.next) {
        this.broken("offsets are not given out again", `${where}: ${sent.offset} ≥ ${shown.next}`);
      } else if (!seen.has(sent.number) && !sent.old) {
        this.broken(
          "what was acknowledged is there",
          `${where}: message ${sent.number} is not at offset ${sent.offset}`,
        );
        // Said once.
        sent.gone = true;
      }
    }
  }

  #sameBytes(sent: Sent, message: StoredMessage, entry: QueueEntry, at: string): void {
    const { topic, queueId, queueOffset, storedAtMs, ...rest } = message;
    const { topic: _, ...expected } = sent.message;
    const equal = (one: unknown, other: unknown): boolean =>
      Buffer.isBuffer(one) && Buffer.isBuffer(other) ? one.equals(other) : one === other;
    const keys = Object.keys(expected) as (keyof typeof expected)[];
    const wrong = keys.filter((key) => !equal(rest[key], expected[key]));
    if (wrong.length > 0 || topic !== sent.topic || queueId !== sent.queueId || queueOffset !== entry.queueOffset) {
      this.broken("a message is what was sent", `${at}: ${topic}/${queueId} at ${queueOffset}, wrong: ${wrong.join()}`);
    }
    if (storedAtMs <= 0) this.broken("a message has the time at which it was stored", at);
    if (entry.tagHash !== tagHash(sent.message.tag)) this.broken("an entry has its message's tag hash", at);
  }
}
