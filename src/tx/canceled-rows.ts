import type { MessageId } from "../message/id.ts";
import { reach } from "../runtime/failpoint.ts";
import type { Outbox, OutboxRow } from "./outbox.port.ts";
import { idOfRef } from "./outgoing.ts";

/**
 * A cancel that was carried out at the delay server also takes its message out of the outbox, if that still waits here:
 * the transaction that canceled may not have seen it, because its snapshot was older. Otherwise the message would be kept
 * out only by its name at the delay server, which knows it for an hour. What was written after the cancel is another's.
 */
export const removeCanceled = async (
  outbox: Pick<Outbox, "delayed" | "remove">,
  carriedOut: readonly OutboxRow[],
): Promise<void> => {
  const cancels = carriedOut.filter(({ kind, head }) => kind === "cancel" && head.key !== undefined);
  if (cancels.length === 0) return;
  const canceledAtMs = new Map<MessageId, number>();
  for (const { head, createdAtMs } of cancels) {
    const { key, messageGroup } = head;
    const id = idOfRef({ key: key!, ...(messageGroup === undefined ? undefined : { messageGroup }) });
    canceledAtMs.set(id, Math.max(createdAtMs, canceledAtMs.get(id) ?? 0));
  }
  const waiting = await outbox.delayed([...canceledAtMs.keys()]);
  await outbox.remove(
    waiting.filter(({ id, createdAtMs }) => createdAtMs <= canceledAtMs.get(id)!).map(({ row }) => row),
  );
  reach("cancel-done");
};
