import type { RetryPolicy } from "../retry/policy.ts";

/** Which retry policy is bound to messages of a topic and tag, whatever group they are for. Asked after failures only. */
export interface SendPolicies {
  policyFor(topic: string, tag: string | undefined): RetryPolicy | undefined;
}
