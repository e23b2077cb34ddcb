import type { MessageId } from "../message/id.ts";
import type { SqlExecutor } from "./database.port.ts";
import type { TxMessage, TxMessageRef } from "./outgoing.ts";

/**
 * How the messages of a transaction get to the broker if, and only if, it commits. The transaction itself (who begins,
 * who commits, what is tried again) knows nothing of it: the outbox is one way, RocketMQ's half messages another.
 */
export interface TxMode {
  /** `owned`: we begin and commit, so that we shall know the outcome. Otherwise somebody else does. */
  begin(txId: MessageId, owned: boolean): TxSession;
}

export interface TxSession {
  send(sql: SqlExecutor, message: TxMessage): Promise<SentInTx>;
  cancel(sql: SqlExecutor, ref: TxMessageRef): Promise<void>;
  /** The last statements of an owned transaction, messages or not; may refuse the commit by throwing. */
  beforeCommit(sql: SqlExecutor): Promise<void>;
  /** COMMIT was answered. */
  committed(): void;
  /** COMMIT was sent and nobody knows. */
  unknown(): void;
  /** COMMIT was sent, and the answer was that everything is rolled back. */
  rolledBack(): void;
}

/** `id` is the ESC_ID of every copy. `key` is there for delayed messages: what `cancel` takes. */
export type SentInTx = { readonly id: string; readonly key?: string };
