import type { ConsumerSyncReply } from "../wire/consumer-sync.ts";
import type {
  DeletePolicyReply,
  PolicyListReply,
  PolicyReply,
  PolicyVersionsReply,
  PutPolicyReply,
  RetryBindingPlace,
  RetryBindingsReply,
} from "../wire/http.ts";

/**
 * Retry policies with names and versions, and whose messages they are bound to. What comes from users is unknown JSON
 * and is checked here; mistakes are thrown as errors with a code.
 */
export interface Policies {
  list(): Promise<PolicyListReply>;
  /** By `name` the newest version, by `name@version` any that ever held. Throws `policy_not_found`. */
  get(reference: string): Promise<PolicyReply>;
  versions(name: string, before?: number): Promise<PolicyVersionsReply>;
  /** Throws `invalid_field`, `policy_preset`, `policy_changed`, `policy_circle`, `too_many_policies`. */
  put(name: string, request: unknown): Promise<PutPolicyReply>;
  /** Throws `policy_not_found`, `policy_preset`, `policy_changed`, `policy_bound`. */
  remove(name: string, options: RemovePolicy): Promise<DeletePolicyReply>;

  bindings(): Promise<RetryBindingsReply>;
  /** Binds a policy there, instead of the one that was. Throws as `put`, and `policy_not_found`. */
  bind(request: unknown): Promise<RetryBindingsReply>;
  /** Throws `binding_not_found`. */
  unbind(place: RetryBindingPlace): Promise<RetryBindingsReply>;

  /**
   * What holds for a consumer group, as this process knows it (other processes' changes are known here within two
   * seconds): the most special first. The tag changes only when something in it did.
   */
  boundTo(group: string, topics: readonly string[]): BoundPolicies;
  /** The policy of this name for everything, bound or not; one that was deleted holds on. Throws `policy_not_found`. */
  named(name: string): Promise<BoundPolicies>;
  /** By `name@version`, for messages that were decided by them; null where there never was one. */
  asDecided(references: readonly string[]): Promise<NonNullable<ConsumerSyncReply["versions"]>>;
}

export type BoundPolicies = NonNullable<ConsumerSyncReply["policies"]>;

export type RemovePolicy = {
  readonly ifVersion?: number;
  /** Removes its bindings with it; otherwise a policy that is bound stays. */
  readonly withBindings?: boolean;
  readonly by?: string;
  readonly why?: string;
};
