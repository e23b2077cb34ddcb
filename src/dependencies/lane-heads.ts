import { createHash } from "node:crypto";
import { type DocumentStore, documentLimits, type StoredDocument } from "../documents/document-store.port.ts";
import { day, type EpochMs } from "../message/time.ts";
import type { Clock } from "../runtime/clock.ts";
import type { ConsumerSyncRequest } from "../wire/consumer-sync.ts";

/**
 * Which messages of blocking groups have a handler at work that somebody may never hear of again. Such a message cannot
 * carry how often it killed its process, because it stays with the broker; and the broker's count rises for those that
 * were only held behind it, for what was given back with a wait, and at every orderly stop. So it is written down here
 * before the handler runs, and crossed out when it has given any answer.
 *
 * Only messages that were given out before come here, so a group that is well writes nothing.
 */
export type LaneHeadsOptions = { readonly documents: DocumentStore; readonly clock: Clock };

type Heads = NonNullable<ConsumerSyncRequest["heads"]>;
type Head = { readonly delivery: number; readonly crashes: number; readonly atMs: EpochMs };

const kind = "lane-head";
const triesMax = 5;
const atOnce = 20;
/** Nobody who began so long ago is still at it, and the message is gone or dead. */
const keepMs = 7 * day;
const sweepEveryMs = 3_600_000;
const sweepPageEveryMs = 1_000;

export class LaneHeads {
  readonly #options: LaneHeadsOptions;
  #sweptUntil = "";

  constructor(options: LaneHeadsOptions) {
    this.#options = options;
  }

  /** Answers for those that begin. */
  async take(group: string, heads: Heads): Promise<{ id: string; crashes: number }[]> {
    const begun: { id: string; crashes: number }[] = [];
    const waiting = [...heads];
    await Promise.all(
      Array.from({ length: atOnce }, async () => {
        for (let head = waiting.shift(); head !== undefined; head = waiting.shift()) {
          const { id, delivery, state } = head;
          const name = createHash("sha256").update(`${group}\n${id}`).digest("base64url");
          if (state === "answered") await this.#answered(name, delivery);
          else begun.push({ id, crashes: await this.#begins(name, delivery) });
        }
      }),
    );
    return begun;
  }

  /** One page of what is too old. */
  async runOnce(): Promise<number> {
    const { documents, clock } = this.#options;
    const page = await documents.list(kind, { after: this.#sweptUntil, limit: documentLimits.listMax });
    for (const document of page) {
      if (clock.nowMs() - headIn(document).atMs > keepMs)
        await documents.remove(kind, document.name, document.revision);
    }
    const isLast = page.length < documentLimits.listMax;
    this.#sweptUntil = isLast ? "" : page.at(-1)!.name;
    return isLast ? sweepEveryMs : sweepPageEveryMs;
  }

  async #begins(name: string, delivery: number): Promise<number> {
    const { documents, clock } = this.#options;
    let document = await documents.read(kind, name);
    for (let attempt = 0; attempt < triesMax; attempt++) {
      const before = document === undefined ? undefined : headIn(document);
      // A question that got no answer is asked again: that is the same run.
      if (before !== undefined && before.delivery >= delivery) return before.crashes;
      const head: Head = { delivery, crashes: before === undefined ? 0 : before.crashes + 1, atMs: clock.nowMs() };
      const result = await documents.write(kind, name, JSON.stringify(head), document?.revision ?? 0);
      if (result.outcome === "written") return head.crashes;
      document = result.current;
    }
    return 0;
  }

  async #answered(name: string, delivery: number): Promise<void> {
    const { documents } = this.#options;
    const document = await documents.read(kind, name);
    // Somebody else has begun meanwhile: what he will be asked is about his run.
    if (document === undefined || headIn(document).delivery > delivery) return;
    await documents.remove(kind, name, document.revision);
  }
}

const headIn = ({ body }: StoredDocument): Head => JSON.parse(body) as Head;
