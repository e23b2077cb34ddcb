import type {
  DeadAudit,
  DeadDetails,
  DeadGroupsReply,
  DeadList,
  DiscardReply,
  RedriveDryRunReply,
  RedriveList,
  RedriveOutcomes,
  RedriveReply,
} from "../wire/dead.ts";

/**
 * The use cases around the dead, in the words of the HTTP contract. Requests are `unknown`, queries are text as it came:
 * checking them is this room's work, and every refusal is an EscapementError.
 */
export interface DeadUseCases {
  list(query: Query, limit: number, tenant: string): Promise<DeadList>;
  groups(query: Query, tenant: string): Promise<DeadGroupsReply>;
  show(id: string, withBody: boolean, tenant: string): Promise<DeadDetails>;
  discard(request: unknown, tenant: string): Promise<DiscardReply>;
  audit(cursor: string | undefined, limit: number): Promise<DeadAudit>;

  redrive(request: unknown, tenant: string): Promise<RedriveReply | RedriveDryRunReply>;
  redrives(cursor: string | undefined, limit: number, tenant: string): Promise<RedriveList>;
  redriveOf(id: string, tenant: string): Promise<RedriveReply>;
  command(id: string, command: "pause" | "resume" | "cancel", request: unknown, tenant: string): Promise<RedriveReply>;
  outcomes(id: string, query: Query, tenant: string): Promise<RedriveOutcomes>;
}

/** Names and values of a query string, each once. */
export type Query = Readonly<Record<string, string | undefined>>;
