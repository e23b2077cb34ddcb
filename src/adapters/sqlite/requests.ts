import type {
  AcquireResult,
  ChangeResult,
  DeadReason,
  Death,
  Released,
  Reschedule,
  ScheduleResult,
  ShardStats,
  StoredMessage,
} from "../../delay/delay-store.port.ts";
import type { StoredDocument, WriteResult } from "../../documents/document-store.port.ts";
import type { ErrorCode } from "../../message/errors.ts";
import type { MessageId } from "../../message/id.ts";
import type { DurationMs, EpochMs } from "../../message/time.ts";

/**
 * What the store asks the thread of the file, and what that answers. All of it can be copied from thread to thread:
 * plain values, and places in the parcel that travels with them (packing.ts).
 */

/** Where something lies in the parcel, and how often. */
type Place = { readonly start: number; readonly count: number };

/** Lanes by their topics: what counts by topic has to be told once. */
export type LaneName = readonly [lane: number, topic: string];

export type Request =
  | ({ readonly verb: "schedule"; readonly shard: number; readonly names: readonly LaneName[] } & Place)
  | ({
      readonly verb: "bury";
      readonly shard: number;
      readonly reasons: readonly DeadReason[];
      readonly nowMs: EpochMs;
    } & Place)
  | { readonly verb: "cancel"; readonly shard: number; readonly ids: readonly MessageId[]; readonly nowMs: EpochMs }
  | { readonly verb: "reschedule"; readonly shard: number; readonly changes: readonly PlainReschedule[] }
  | { readonly verb: "get"; readonly shard: number; readonly ids: readonly MessageId[] }
  | {
      readonly verb: "dead";
      readonly shard: number;
      readonly from: string | EpochMs | undefined;
      readonly limit: number;
    }
  | ({
      readonly verb: "revive";
      readonly shard: number;
      readonly names: readonly LaneName[];
      readonly diedAtMs: readonly EpochMs[];
    } & Place)
  | { readonly verb: "discard"; readonly shard: number; readonly deaths: readonly Death[]; readonly nowMs: EpochMs }
  | { readonly verb: "stats"; readonly shard: number; readonly nowMs: EpochMs }
  | { readonly verb: "acquire"; readonly shard: number; readonly owner: string; readonly leaseMs: DurationMs }
  | {
      readonly verb: "renew";
      readonly leases: readonly { readonly shard: number; readonly epoch: number }[];
      readonly owner: string;
      readonly leaseMs: DurationMs;
    }
  | { readonly verb: "release"; readonly shard: number; readonly epoch: number; readonly owner: string }
  | { readonly verb: "recover"; readonly shard: number; readonly epoch: number; readonly limit: number }
  | {
      readonly verb: "near";
      readonly shard: number;
      readonly fromMs: EpochMs;
      readonly untilMs: EpochMs;
      readonly cursor: string | undefined;
      readonly limit: number;
    }
  | { readonly verb: "count"; readonly shard: number; readonly fromMs: EpochMs; readonly untilMs: EpochMs }
  | ({
      readonly verb: "claim";
      readonly shard: number;
      readonly epoch: number;
      readonly nowMs: EpochMs;
      readonly bytesMax: number;
    } & Place)
  | ({
      readonly verb: "settle";
      readonly shard: number;
      readonly epoch: number;
      readonly reasons: readonly DeadReason[];
      readonly nowMs: EpochMs;
    } & Place)
  | { readonly verb: "topics" }
  | { readonly verb: "remember"; readonly topic: string }
  | { readonly verb: "readDocument"; readonly kind: string; readonly name: string }
  | {
      readonly verb: "listDocuments";
      readonly kind: string;
      readonly prefix: string;
      readonly after: string;
      readonly limit: number;
    }
  | {
      readonly verb: "writeDocument";
      readonly kind: string;
      readonly name: string;
      readonly body: string;
      readonly expected: number;
    }
  | { readonly verb: "removeDocument"; readonly kind: string; readonly name: string; readonly expected: number }
  | { readonly verb: "check" };

export type Verb = Request["verb"];

/** What each verb answers, before it is made into what the port promises. */
export type Answers = {
  /** Undefined: all of them were new, the ordinary case, which need not be told one by one. */
  schedule: ScheduleResult[] | undefined;
  bury: undefined;
  cancel: ChangeResult[];
  reschedule: ChangeResult[];
  get: (PlainStored | undefined)[];
  dead: { readonly items: PlainStored[]; readonly cursor: string | undefined };
  revive: boolean[];
  discard: boolean[];
  stats: ShardStats;
  acquire: AcquireResult;
  renew: boolean[];
  release: undefined;
  recover: number;
  count: number;
  near: {
    readonly ids: Uint8Array;
    readonly lanes: Uint32Array;
    readonly dueMs: Float64Array;
    readonly cursor: string | undefined;
  };
  claim: Place & {
    readonly later: { readonly id: MessageId; readonly dueMs: EpochMs }[];
    /** From this one on, the ids asked for were not looked at. */
    readonly deferredFrom: number;
    readonly gone: number;
    readonly expired: number;
    readonly released: Released[];
  };
  settle: Released[];
  topics: string[];
  remember: undefined;
  readDocument: StoredDocument | undefined;
  listDocuments: DocumentPage;
  writeDocument: WriteResult;
  removeDocument: boolean;
  check: { readonly problems: string[]; readonly warnings: string[] };
};

/** `isWhole`: not cut off because of its size. */
export type DocumentPage = { readonly documents: readonly StoredDocument[]; readonly isWhole: boolean };

export type PlainReschedule = Omit<Reschedule, "body"> & { readonly body?: Uint8Array };

/** A stored message with its record unread. */
export type PlainStored = Omit<StoredMessage, "message"> & { readonly record?: Uint8Array };

export type PlainError = { readonly code: ErrorCode; readonly message: string };

export type Reply =
  | { readonly value: unknown; readonly wakes: Place | undefined }
  /** Thrown again where it was asked for. */
  | { readonly error: PlainError };

/** Everything that was asked in one turn. */
export type Post = {
  readonly requests: readonly Request[];
  readonly parcel: ArrayBuffer;
  /** The store's clock: the thread of the file has none. */
  readonly clockMs: number;
};

export type PostReply = { readonly replies: readonly Reply[]; readonly parcel: ArrayBuffer };
