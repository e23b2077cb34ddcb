import type { Sent } from "./book.ts";
import type { AfterConsumers, Violated } from "./check-consumers.ts";

/**
 * Order, as each mode promises it, by the first time that a message came to its handler.
 *
 * - `block-key` and `block-queue`: not before those ahead of it in its lane have worked or are dead.
 * - `skip-key`: not before those ahead of it have come to their handler for the first time, unless somebody had them
 *   before and gave no answer.
 */
export const checkOrder = ({ options, book }: AfterConsumers, violated: Violated): void => {
  const { order } = options;
  if (order === undefined) return;
  const lanes = Map.groupBy(book.sent.values(), ({ messageGroup, queueId }) =>
    order === "block-queue" ? `queue ${queueId}` : messageGroup,
  );
  for (const lane of lanes.values()) {
    for (let i = 1; i < lane.length; i++) {
      const message = lane[i]!;
      const first = message.runs[0];
      if (first === undefined) continue;
      for (const ahead of lane.slice(0, i)) {
        const openMs = order === "skip-key" ? beganMs(ahead) : endedMs(ahead);
        if (first.startMs >= openMs) continue;
        const text = `${message.name} comes to its handler at ${(first.startMs / 1000).toFixed(3)} s, before ${ahead.name} ${order === "skip-key" ? "came" : "was over"}`;
        violated(`C7 order: ${order}`, text, message.name, ahead.name);
        break;
      }
    }
  }
};

/** Or was handed over without coming there: parked or deferred. */
const beganMs = ({ runs, handedOver, entries }: Sent): number =>
  Math.min(
    entries[0]!.deliveries.length > 1 ? 0 : Number.POSITIVE_INFINITY,
    runs[0]?.startMs ?? Number.POSITIVE_INFINITY,
    ...handedOver.map(({ storedMs }) => storedMs ?? Number.POSITIVE_INFINITY),
  );

const endedMs = ({ runs, handedOver }: Sent): number =>
  Math.min(
    ...runs.map(({ end, endMs }) => (end === "ok" || end === "late" ? endMs! : Number.POSITIVE_INFINITY)),
    ...handedOver.map(({ kind, storedMs }) =>
      kind === "dead" ? (storedMs ?? Number.POSITIVE_INFINITY) : Number.POSITIVE_INFINITY,
    ),
  );
