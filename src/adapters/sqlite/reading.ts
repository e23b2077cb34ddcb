import type { ShardStats } from "../../delay/delay-store.port.ts";
import { idToBytes, type MessageId } from "../../message/id.ts";
import type { EpochMs } from "../../message/time.ts";
import type { Ledger } from "./ledger.ts";
import type { Answers, PlainStored } from "./requests.ts";

/** What is asked without changing anything. */

export const get = (ledger: Ledger, shard: number, ids: readonly MessageId[]): (PlainStored | undefined)[] =>
  ids.map((id) => {
    const entry = ledger.entries.find(shard, idToBytes(id));
    return entry === undefined ? undefined : ledger.stored(entry);
  });

export const dead = (
  ledger: Ledger,
  shard: number,
  from: string | EpochMs | undefined,
  limit: number,
): Answers["dead"] => {
  const after = typeof from === "number" ? { timeMs: from, seq: -1 } : parseCursor(from);
  const places = ledger.dead.page(shard, after.timeMs, after.seq, Math.min(limit, deadPageMax));
  const items: PlainStored[] = [];
  let bytes = 0;
  for (const { id } of places) {
    if (bytes > deadBytesMax) break;
    const item = ledger.stored(ledger.entries.find(shard, id)!);
    bytes += item.record?.length ?? 0;
    items.push(item);
  }
  const last = places[items.length - 1];
  const isLast = last === undefined || (items.length === places.length && places.length < Math.min(limit, deadPageMax));
  return { items, cursor: isLast ? undefined : `${last.ended_at}:${last.seq}` };
};

export const near = (
  { room }: Ledger,
  shard: number,
  fromMs: EpochMs,
  untilMs: EpochMs,
  cursor: string | undefined,
  limit: number,
): Answers["near"] => {
  const after = cursor === undefined ? { timeMs: fromMs, seq: -1 } : parseCursor(cursor);
  const most = Math.min(limit, nearPageMax);
  const { last, ...page } = room.page(shard, after.timeMs, after.seq, untilMs, most);
  return { ...page, cursor: last === undefined ? undefined : `${last.dueMs}:${last.seq}` };
};

export const count = ({ room }: Ledger, shard: number, fromMs: EpochMs, untilMs: EpochMs): number =>
  room.count(shard, fromMs, untilMs);

export const stats = ({ leases, counts, outs, dead }: Ledger, shard: number, nowMs: EpochMs): ShardStats => {
  const { owner, epoch } = leases.of(shard);
  const out = Array.from(outs.of(shard), ({ entry }) => entry.dueMs);
  return {
    owner,
    epoch,
    waitingByTopic: counts.byTopic(shard),
    claimed: out.length,
    dead: dead.count(shard),
    ...counts.byTime(shard, nowMs, out),
  };
};

/** Reading holds up everything else that the store is asked, so a page is a few milliseconds' work, whatever was asked for. */
const nearPageMax = 5_000;
const deadPageMax = 1_000;
const deadBytesMax = 8_000_000;

/** A page continues behind (time, number of acceptance) of the last item before, whether or not that is still there. */
const parseCursor = (cursor: string | undefined): { readonly timeMs: number; readonly seq: number } => {
  if (cursor === undefined) return { timeMs: -1, seq: -1 };
  const match = /^(\d{1,16}):(\d{1,16})$/.exec(cursor);
  if (match === null) throw new RangeError("not a cursor of this store");
  return { timeMs: Number(match[1]), seq: Number(match[2]) };
};
