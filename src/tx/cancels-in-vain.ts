import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";

/**
 * Shards go to any process that sends this outbox. So one that does not know the delay server keeps the cancels of all
 * from being done for as long as it holds their shard; its rows say so, and so does its log, once a minute.
 */
export const cancelsInVainSaid = ({
  clock,
  log,
}: {
  readonly clock: Pick<Clock, "monotonicMs">;
  readonly log: Log;
}): (() => void) => {
  let saidAtMs = Number.NEGATIVE_INFINITY;
  return () => {
    if (clock.monotonicMs() - saidAtMs < sayEveryMs) return;
    saidAtMs = clock.monotonicMs();
    log.error(
      { code: "delay_server_missing" },
      "cancels wait in this outbox, and this process does not know the delay server: give every producer and relay of one database the same escapement: { url } (escapement relay: --url)",
    );
  };
};

const sayEveryMs = 60_000;
