/**
 * What programs that use the embedded broker directly wanted, were answered and received, one entry per event. A message
 * is known by its serial, which travels as a property; a copy by the offset it lies at.
 */
export type Kind =
  /** Taken in turn, acknowledged at the first or second time. */
  | "normal"
  | "fifo"
  | "delayed"
  /** A delayed one that is recalled before its time. */
  | "recalled"
  | "committed"
  | "rolled-back"
  /** Never acknowledged, so that it must end as a dead letter. */
  | "hopeless";

export type BrokerEntry =
  | {
      readonly event: "sent";
      readonly serial: number;
      readonly atMs: number;
      readonly kind: Kind;
      readonly group?: string | undefined;
      /** Not before this. */
      readonly dueMs: number;
      readonly crc: number;
    }
  /** The send was answered well. A send without this may have been stored or not. */
  | { readonly event: "stored"; readonly serial: number; readonly atMs: number }
  | { readonly event: "recalled"; readonly serial: number; readonly atMs: number }
  | {
      readonly event: "got";
      readonly serial: number;
      readonly atMs: number;
      readonly offset: number;
      readonly attempt: number;
      readonly crc: number;
      readonly isDeadLetter: boolean;
    }
  /** The acknowledgement of a copy was answered well. */
  | { readonly event: "acked"; readonly serial: number; readonly atMs: number; readonly offset: number }
  /** The broker was killed at this moment at the latest, and was well until then. */
  | { readonly event: "killed"; readonly atMs: number };

export type Sent = Extract<BrokerEntry, { event: "sent" }>;
export type Got = Extract<BrokerEntry, { event: "got" }>;
