import { IdList } from "../../src/message/id-list.ts";
import type { DelayedMessage } from "../../src/message/message.ts";

/** Messages of one shard, as they were accepted together. */
export type Job = { readonly shard: number; readonly messages: readonly DelayedMessage[] };

/** As an owner claims: of each shard those together that are due together. */
export const claimsInDueOrder = (
  jobs: readonly Job[],
  shardCount: number,
  batch: number,
): { shard: number; ids: IdList }[] => {
  const byShard = Array.from({ length: shardCount }, (_, shard) =>
    jobs
      .filter((job) => job.shard === shard)
      .flatMap(({ messages }) => messages)
      .sort((a, b) => a.deliverAtMs - b.deliverAtMs)
      .map(({ id }) => id),
  );
  const claims: { shard: number; ids: IdList }[] = [];
  for (let from = 0; byShard.some((ids) => from < ids.length); from += batch) {
    for (const [shard, ids] of byShard.entries()) {
      if (from < ids.length) claims.push({ shard, ids: IdList.of(ids.slice(from, from + batch)) });
    }
  }
  return claims;
};
