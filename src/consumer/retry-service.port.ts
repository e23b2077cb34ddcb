import type { ConsumerSyncReply, ConsumerSyncRequest } from "../wire/consumer-sync.ts";

/** The Escapement service, as a consumer process sees it. */
export interface RetryService {
  /** Rejects when there is no answer; the consumer works on with what it knows. */
  sync(request: ConsumerSyncRequest, signal: AbortSignal): Promise<ConsumerSyncReply>;
}
