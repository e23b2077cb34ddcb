import type { BatchItemReply, MessageDetails, MessageReply, RescheduleRequest } from "../wire/http.ts";

/**
 * The use cases of the way in, in the words of the HTTP contract. Requests are `unknown` because checking them is this
 * room's work (admit); every refusal is an EscapementError. `tenant` comes from the credential.
 */
export interface Intake {
  schedule(request: unknown, tenant: string): Promise<MessageReply>;
  /** One result per item, in order; one bad item does not spoil the rest. Bad items are counted from `firstIndex`. */
  scheduleBatch(requests: readonly unknown[], tenant: string, firstIndex?: number): Promise<BatchItemReply[]>;
  cancel(ref: MessageRef, tenant: string): Promise<MessageReply>;
  reschedule(ref: MessageRef, request: RescheduleRequest | unknown, tenant: string): Promise<MessageReply>;
  get(ref: MessageRef, tenant: string, options: { readonly body: boolean }): Promise<MessageDetails>;
}

/** By id, or by the user's own key (with its message group, where it has one). Text as the user wrote it. */
export type MessageRef = { readonly id: string } | { readonly key: string; readonly messageGroup?: string };
