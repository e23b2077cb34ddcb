import type { SendPolicies } from "../dispatch/send-policies.port.ts";
import type { DurationMs } from "../message/time.ts";
import type { Policies } from "../policies/policies.port.ts";
import { parsePolicy } from "../retry/parse-policy.ts";
import type { DeadMessage } from "./dead-message.ts";

/**
 * How long a policy keeps its dead: for a consumer's dead the version that decided its death, for what died on its way
 * out the one that holds for its topic now. What was buried on its way in has none.
 */
export const keepByPolicies = (
  policies: Pick<Policies, "asDecided">,
  sends: SendPolicies,
): ((dead: DeadMessage) => Promise<DurationMs | undefined>) => {
  // Versions never change, so each is asked for once.
  const known = new Map<string, DurationMs | undefined>();
  return async ({ envelope, message, reason }) => {
    if (envelope === undefined) {
      const wasSent = message !== undefined && message.attempt > 0 && reason.code !== "record_damaged";
      return wasSent ? sends.policyFor(message.topic, message.tag)?.dead?.keepMs : undefined;
    }
    if (known.has(envelope.policy)) return known.get(envelope.policy);
    const [found] = await policies.asDecided([envelope.policy]);
    const input = found?.policy;
    const keepMs = input === undefined || input === null ? undefined : parsePolicy(input).dead?.keepMs;
    if (known.size < knownMax) known.set(envelope.policy, keepMs);
    return keepMs;
  };
};

/** More versions than are in use at once; whoever writes envelopes of his own must not fill the memory. */
const knownMax = 10_000;
