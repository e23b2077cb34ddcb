import { type MessageId, timeOrderedId } from "../message/id.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";

/**
 * What may be concluded from a mark that is not there: "not committed", if one would be there. So a transaction's id
 * says itself whether its commit leaves a mark, and when it began; and nobody removes the mark of a transaction that
 * began less than `outcomesKeptMinMs` ago, whatever is configured where. Both times are compared by the database's
 * clock, so a wrong clock of an application makes marks stay longer, or a fence be refused, and nothing else.
 */
export const outcomesKeptMinMs = 15 * 60_000;
/** Less than they are kept, so that a clock of the database may go back a little, as in a failover. */
export const fenceableMs = outcomesKeptMinMs - 60_000;
/** A fence must outlive the transaction that it stops. */
export const fencesKeptMs = 86_400_000;

/** The last bit is set if the commit leaves a mark, the one before it if the commit is ours. */
export const newTxId = (
  clock: Clock,
  random: Random,
  { marks, owned }: { marks: boolean; owned: boolean },
): MessageId => {
  const tail = Math.floor(random.float() * 16_384) * 4 + (owned ? 2 : 0) + (marks ? 1 : 0);
  return timeOrderedId(clock.nowMs(), random.bytes(new Uint8Array(10)), tail);
};

export const leavesMark = (txId: MessageId): boolean => hasBit(txId, 1);

/** Of a joined one no message, taken back, says anything of the rest. */
export const isOwned = (txId: MessageId): boolean => hasBit(txId, 2);

const hasBit = (txId: MessageId, bit: 1 | 2): boolean =>
  txId[14] === "7" && (Number.parseInt(txId.slice(-1), 16) & bit) !== 0;
