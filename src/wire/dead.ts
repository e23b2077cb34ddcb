import type { DurationInput, InstantInput, MessageDetails } from "./http.ts";

/** The HTTP contract about the dead and about bringing them back. Beside `http.ts`, which has the rest. */

/** Which of the dead; everything given must fit, and `{}` means all. */
export type DeadFilterInput = {
  /** Where it was meant to go, or came from. */
  topic?: string;
  /** The consumer group that gave it up. */
  group?: string;
  /** Of its last failure. */
  fingerprint?: string;
  /** Why it is dead, or the code of its last failure. */
  code?: string;
  /** Died at or after. */
  from?: InstantInput;
  /** Died before. */
  until?: InstantInput;
  /** Stands in the reason, a failure's text, the key, the keys or an id. */
  text?: string;
  ids?: string[];
};

export type PastFailureReply = {
  attempt: number;
  at: string;
  class: string;
  code: string;
  fingerprint: string;
  text: string;
};

/** What its consumer wrote with it. */
export type RetryDetails = {
  group: string;
  originTopic: string;
  originId: string;
  originBornAt: string;
  attempts: number;
  crashes: number;
  firstFailedAt?: string;
  policy: string;
  /** Times it was brought back from the dead. */
  replays: number;
  /** The first failure and the last ones, oldest first. */
  history: PastFailureReply[];
};

export type DeadDetails = MessageDetails;

/** A bounded look: `scanned` says how many were looked at, and where not `complete` there is more: go on with `cursor`. */
export type DeadList = { items: DeadDetails[]; scanned: number; complete: boolean; cursor?: string };

export type DeadGroupReply = {
  topic: string;
  group?: string;
  code: string;
  fingerprint?: string;
  count: number;
  firstAt: string;
  lastAt: string;
  sample: { id: string; text: string };
};

export type DeadGroupsReply = {
  groups: DeadGroupReply[];
  /** Messages of further groups, beyond those that are told apart. */
  untold: number;
  scanned: number;
  complete: boolean;
  cursor?: string;
};

export type DiscardRequest = {
  filter: DeadFilterInput;
  /** Why; stands in the audit. */
  reason?: string;
  /** Who; until there are credentials, whatever the caller says. */
  by?: string;
  /** Only counts. */
  dryRun?: boolean;
  cursor?: string;
};

export type DiscardReply = {
  matched: number;
  discarded: number;
  scanned: number;
  complete: boolean;
  cursor?: string;
};

export type RedriveRequest = {
  filter: DeadFilterInput;
  /** Counts and shows some; changes nothing. */
  dryRun?: boolean;
  reason?: string;
  by?: string;
  /** Messages a second. Default 100. */
  rate?: number;
  /** How long the way to the full rate takes. Default 10 s. */
  ramp?: DurationInput;
  /** So many go first, and their outcomes are waited for. Default 10; 0 for none. */
  canary?: number;
  /** Default 1 min. */
  canaryWait?: DurationInput;
  /** Stops itself when more than so many percent fail. Default 10. */
  stopAbove?: number;
  /** Not judged before so many outcomes are known. Default 20. */
  stopMin?: number;
  /** What was brought back so often stays dead. Default 3. */
  replaysMax?: number;
  /** How long outcomes are gathered after the last one was sent. Default 10 min. */
  outcomeWait?: DurationInput;
  edit?: { topic?: string; properties?: Record<string, string>; body?: string; bodyBase64?: string };
  /** Must be true with `edit`. */
  allowEdit?: boolean;
};

export type RedriveDryRunReply = {
  dryRun: true;
  /** Would be brought back. */
  matched: number;
  /** Fit, but would stay dead, by reason. */
  skipped: Record<string, number>;
  scanned: number;
  complete: boolean;
  sample: DeadDetails[];
};

export type RedriveState =
  | "canary"
  | "waiting"
  | "running"
  | "settling"
  | "finished"
  | "paused"
  | "stopped"
  | "canceled";

export type RedriveCounts = {
  /** Brought back: everything below but the skipped. */
  sent: number;
  succeeded: number;
  failed: number;
  deadAgain: number;
  canceled: number;
  skipped: number;
  /** Of the sent, those whose outcome is not known (yet). */
  pending: number;
};

export type RedriveReply = {
  id: string;
  state: RedriveState;
  /** Since when. */
  since: string;
  /** Why it is paused or stopped. */
  note?: string;
  by: string;
  reason: string;
  createdAt: string;
  filter: DeadFilterInput;
  rate: number;
  canary: number;
  stopAbove: number;
  edited: boolean;
  counts: RedriveCounts;
  /** How many of the dead were looked at, and whether that was all. */
  scanned: number;
  selected: boolean;
};

export type RedriveList = { items: RedriveReply[]; cursor?: string };

export type RedriveOutcomes = {
  items: { id: string; outcome: string }[];
  cursor?: string;
};

export type DeadAuditEntry = {
  at: string;
  action: string;
  by: string;
  reason: string;
  what: string;
  redrive?: string;
  count?: number;
};

export type DeadAudit = { items: DeadAuditEntry[]; cursor?: string };
