import { type FailureClass, type Sink, sendBytesMax, sendMessagesMax } from "../dispatch/sink.port.ts";
import { ingestProperty } from "../message/ingest-properties.ts";
import { type DelayedMessage, property } from "../message/message.ts";
import { epochMs } from "../message/time.ts";
import type { DelayServer } from "./delay-server.port.ts";
import { waves } from "./lanes.ts";
import type { OutboxRow } from "./outbox.port.ts";

/**
 * Sends rows of the outbox: those due now to their topic, delayed ones to the ingest topic, cancels to the delay
 * server. What the fast path and the relay have in common. It changes no row; whoever calls records the outcome.
 */
export type RowOutcome =
  | { readonly row: OutboxRow; readonly ok: true }
  | {
      readonly row: OutboxRow;
      readonly ok: false;
      readonly class: FailureClass;
      readonly code: string;
      readonly detail: string;
    }
  /** Not tried, because what stands before it in its lane failed. */
  | { readonly row: OutboxRow; readonly ok: "held" };

export type RowSenderOptions = {
  readonly sink: Sink;
  /** Where delayed messages go in; its messages must get no properties of ours from the sink. */
  readonly ingestTopic: string;
  readonly delayServer: DelayServer | undefined;
  /** There was a cancel, and no delay server is known. */
  readonly cancelsInVain?: () => void;
};

export type RowSender = (rows: readonly OutboxRow[]) => Promise<readonly RowOutcome[]>;

export const createRowSender = ({ sink, ingestTopic, delayServer, cancelsInVain }: RowSenderOptions): RowSender => {
  const sendBatch = async (topic: string, batch: readonly Prepared[]): Promise<RowOutcome[]> => {
    const results = await sink.send(
      topic,
      batch.map(({ message }) => message),
    );
    return batch.map(({ row }, index): RowOutcome => {
      const result = results[index]!;
      return result.ok ? { row, ok: true } : { row, ok: false, ...result.failure };
    });
  };

  const cancel = async (row: OutboxRow): Promise<RowOutcome> => {
    const { key, messageGroup } = row.head;
    if (delayServer === undefined || key === undefined) {
      cancelsInVain?.();
      return {
        row,
        ok: false,
        class: "transient",
        code: "delay_server_missing",
        detail: "this process sends the outbox without knowing the delay server's address",
      };
    }
    try {
      await delayServer.cancel(key, messageGroup);
      return { row, ok: true };
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      return { row, ok: false, class: "transient", code: "delay_server_failed", detail };
    }
  };

  const sendWave = async (rows: readonly OutboxRow[]): Promise<RowOutcome[]> => {
    const cancels = rows.filter(({ kind }) => kind === "cancel").map(cancel);
    const sends = rows.filter(({ kind }) => kind === "send").map((row) => prepare(row, ingestTopic));
    const calls = [...Map.groupBy(sends, ({ message }) => message.topic)].flatMap(([topic, group]) =>
      batches(group).map((batch) => sendBatch(topic, batch)),
    );
    const others = rows.flatMap((row) => (row.kind === "send" || row.kind === "cancel" ? [] : [unsendable(row)]));
    return [...(await Promise.all([...calls, Promise.all(cancels)])).flat(), ...others];
  };

  return async (rows) => {
    const outcomes: RowOutcome[] = [];
    const stopped = new Set<number>();
    for (const wave of waves(rows)) {
      const isHeld = ({ lane }: OutboxRow): boolean => lane !== undefined && stopped.has(lane);
      outcomes.push(...wave.filter(isHeld).map((row): RowOutcome => ({ row, ok: "held" })));
      const tried = await sendWave(wave.filter((row) => !isHeld(row)));
      for (const { row, ok } of tried) if (!ok && row.lane !== undefined) stopped.add(row.lane);
      outcomes.push(...tried);
    }
    return outcomes;
  };
};

/** Waits for a relay that knows it, or goes aside; the rows beside it are sent. */
const unsendable = (row: OutboxRow): RowOutcome =>
  row.kind === "newer"
    ? {
        row,
        ok: false,
        class: "transient",
        code: "row_newer",
        detail: "a newer version of the library has written this; let every producer and relay have that version",
      }
    : {
        row,
        ok: false,
        class: "permanent",
        code: "row_unreadable",
        detail: "its column head is not what this library writes",
      };

type Prepared = { readonly row: OutboxRow; readonly message: DelayedMessage };

const prepare = (row: OutboxRow, ingestTopic: string): Prepared => {
  const { head, dueAtMs, createdAtMs } = row;
  const properties = new Map(head.properties ?? []);
  const common = {
    id: row.id,
    tenant: "default",
    keys: head.keys ?? [],
    ...(head.tag === undefined ? undefined : { tag: head.tag }),
    body: row.body,
    acceptedAtMs: epochMs(createdAtMs),
    attempt: row.attempts + 1,
  };
  if (dueAtMs === undefined) {
    const group = head.messageGroup === undefined ? undefined : { messageGroup: head.messageGroup };
    return { row, message: { ...common, ...group, topic: row.topic, properties, deliverAtMs: epochMs(createdAtMs) } };
  }
  properties.set(ingestProperty.topic, row.topic).set(property.deliverAt, String(dueAtMs));
  if (head.key !== undefined) properties.set(ingestProperty.key, head.key);
  if (head.messageGroup !== undefined) properties.set(ingestProperty.messageGroup, head.messageGroup);
  if (head.expireAfter !== undefined) properties.set(ingestProperty.expireAfter, head.expireAfter);
  return { row, message: { ...common, topic: ingestTopic, properties, deliverAtMs: epochMs(dueAtMs) } };
};

/** As the sink wants them: messages with a group alone, the others up to its limits. */
const batches = (group: readonly Prepared[]): Prepared[][] => {
  const found: Prepared[][] = [];
  let open: Prepared[] = [];
  let bytes = 0;
  for (const one of group) {
    const { messageGroup, body } = one.message;
    if (messageGroup !== undefined) {
      found.push([one]);
      continue;
    }
    if (open.length > 0 && (open.length === sendMessagesMax || bytes + body.length > sendBytesMax)) {
      found.push(open);
      open = [];
      bytes = 0;
    }
    open.push(one);
    bytes += body.length;
  }
  if (open.length > 0) found.push(open);
  return found;
};
