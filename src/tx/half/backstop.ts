import { reach } from "../../runtime/failpoint.ts";
import type { Log } from "../../runtime/log.ts";
import type { BarrierStore, OverdueHalf } from "./barrier.port.ts";
import type { HalfBroker } from "./half-broker.port.ts";
import type { HalfTiming } from "./half-timing.ts";
import { unpackHalf } from "./kept-half.ts";

/**
 * Sends again what is committed and was seen by nobody: a half that never reached the broker, whose commit it forgot,
 * or that it has put aside after too many checks. As a half of its own, committed at once, because a transactional topic
 * takes nothing else; with the same id, so that whoever gets it twice can tell.
 */
export type BackstopOptions = {
  readonly barrier: Pick<BarrierStore<never>, "claimOverdue" | "purge">;
  readonly broker: HalfBroker;
  readonly timing: HalfTiming;
  /** Topics on which everything visible has been seen; the others wait, up to `backstopLatestMs`. */
  readonly caughtUpTopics: () => readonly string[];
  readonly rebuild: Rebuild | undefined;
  readonly log: Log;
};

/** Makes the body of a committed message anew, from the business rows. */
export type Rebuild = (half: { readonly txId: string; readonly id: string; readonly topic: string }) => Promise<Buffer>;

const claimedAtOnce = 50;
/** After an outage of the broker there may be many; each is two calls of some 5 ms. */
const sendsAtOnceMax = 8;
const purgedAtOnce = 500;
const idleMs = 1_000;

export class Backstop {
  readonly #options: BackstopOptions;

  constructor(options: BackstopOptions) {
    this.#options = options;
  }

  async runOnce(signal: AbortSignal): Promise<number> {
    const { barrier, timing, caughtUpTopics } = this.#options;
    const { turnMs, backstopAfterMs, backstopLatestMs, keepSettledMs } = timing;
    const topics = caughtUpTopics();
    const wanted = { turnMs, limit: claimedAtOnce };
    const overdue =
      topics.length === 0 ? [] : await barrier.claimOverdue({ ...wanted, overdueMs: backstopAfterMs, topics });
    const latest = await barrier.claimOverdue({ ...wanted, overdueMs: backstopLatestMs });
    const left = [...overdue, ...latest];
    const work = async (): Promise<void> => {
      // What is not reached any more waits for its turn to end, and somebody else takes it.
      for (let half = left.shift(); half !== undefined && !signal.aborted; half = left.shift())
        await this.#sendAgain(half);
    };
    await Promise.all(Array.from({ length: sendsAtOnceMax }, work));
    const purged = await barrier.purge(keepSettledMs, purgedAtOnce);
    return overdue.length === claimedAtOnce || purged === purgedAtOnce ? 0 : idleMs;
  }

  async #sendAgain(half: OverdueHalf): Promise<void> {
    const { broker, log } = this.#options;
    const { id, txId, topic, resends } = half;
    const fields = { id, txId, topic, resends };
    try {
      const { message, body } = unpackHalf(half.kept);
      const sent = await broker.send({ ...message, body: body ?? (await this.#rebuilt(half)) });
      if (!sent.ok) {
        log.warn(
          { ...fields, code: sent.failure.code, detail: sent.failure.detail },
          "a committed message is not visible and could not be sent again",
        );
        return;
      }
      reach("backstop-sent");
      const ended = await broker.end(sent.half, "commit");
      log.warn({ ...fields, taken: ended.ok }, "a committed message was not seen on its topic and was sent again");
    } catch (error) {
      log.error({ ...fields, err: error }, "a committed message is not visible, and its body could not be made anew");
    }
  }

  async #rebuilt({ txId, id, topic }: OverdueHalf): Promise<Buffer> {
    const { rebuild } = this.#options;
    if (rebuild === undefined) throw new Error("the body was not kept, and there is no rebuild() any more");
    return rebuild({ txId, id, topic });
  }
}
