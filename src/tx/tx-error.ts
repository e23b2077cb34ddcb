/**
 * What can go wrong with a transactional send, in one table. What is wrong with a message itself is said by the same
 * codes as everywhere (src/message/errors.ts). `title` says what holds then; the text of the error says what to change.
 */
export const txErrorTable = {
  outside_transaction: "The message was to be sent outside of a transaction; nothing was sent.",
  not_a_transaction: "What was handed over is not an open transaction; nothing was written.",
  savepoint_refused: "The database takes no savepoint from this library as it is set up; nothing was written.",
  transaction_ended_inside:
    "The transaction ended inside the callback; what is committed by that stays, and its messages will be sent.",
  commit_outcome_unknown: "COMMIT was sent and no answer came; whatever holds for the rows holds for the messages.",
  fenced:
    "Somebody asked for this transaction's outcome and was told that it is rolled back; it must not commit, and one that we began does not.",
  lock_wait_timeout: "A lock was waited for too long; everything was rolled back and may be tried again.",
  deadlock: "Deadlocks went on through all tries; everything was rolled back and may be tried again.",
  delay_server_missing: "A message can be canceled only where the address of the delay server is known.",
  outbox_missing: "The outbox tables are not there.",
  outbox_too_old: "The outbox tables are older than this library needs.",
  outbox_too_new: "The outbox tables are newer than this library understands.",
  send_failed: "The broker did not take the message that was sent outside of a transaction.",
  half_with_group: "Half messages have no order; nothing was written for this message.",
  half_with_delay: "Half messages have no delivery time; nothing was written for this message.",
  half_body_not_kept:
    "The body is larger than what is kept for sending it again; nothing was written for this message.",
  half_refused: "The broker will never take this half message; the transaction was rolled back.",
  half_fenced: "A check was told that this message is rolled back; its transaction must not commit.",
  half_topic: "This topic takes half messages only, and this would have been an ordinary one; nothing was written.",
  half_missing: "The producer was made without half mode.",
  closed: "The producer is closed.",
} as const;

export type TxErrorCode = keyof typeof txErrorTable;

export class TxError extends Error {
  override readonly name = "TxError";
  readonly code: TxErrorCode;
  /** Of the transaction, where there is one: what `status` asks by. */
  readonly txId: string | undefined;

  constructor(code: TxErrorCode, message: string, details: { readonly txId?: string; readonly cause?: unknown } = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.txId = details.txId;
  }
}

export const isTxError = (error: unknown, code?: TxErrorCode): error is TxError =>
  error instanceof TxError && (code === undefined || error.code === code);
