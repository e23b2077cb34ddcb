import type { ConsumerSyncReply, ConsumerSyncRequest } from "../wire/consumer-sync.ts";
import type { DependencyDetails, DependencyPage } from "../wire/dependencies.ts";

/** What the API asks of this room. Requests are `unknown`, because checking them is this room's work. */
export interface Dependencies {
  sync(request: unknown): Promise<ConsumerSyncReply>;
  list(cursor: string | undefined, limit: number): Promise<DependencyPage>;
  show(key: string): Promise<DependencyDetails>;
  force(key: string, request: unknown): Promise<DependencyDetails>;
}

/** Hears what became of messages that were brought back from the dead. */
export interface RedriveNews {
  outcomes(outcomes: NonNullable<ConsumerSyncRequest["redriven"]>): Promise<void>;
}
