import type { Log } from "../../runtime/log.ts";
import type { Timers } from "../../runtime/timers.ts";
import { encodeHeartbeat, encodeSettings, encodeTermination, type Subscription } from "./protocol.ts";
import { createRegistration, type Registration } from "./registration.ts";
import type { Session } from "./session.ts";

/** A registration as a simple consumer of one topic. */
export type ConsumerRegistrationOptions = {
  readonly session: Session;
  readonly subscription: Subscription;
  readonly pollMs: number;
  readonly timers: Timers;
  readonly log: Log;
};

export const createConsumerRegistration = ({
  subscription,
  pollMs,
  ...parts
}: ConsumerRegistrationOptions): Registration =>
  createRegistration({
    ...parts,
    who: subscription,
    words: {
      settings: encodeSettings(subscription, pollMs),
      heartbeat: encodeHeartbeat(subscription.group),
      goodbye: encodeTermination(subscription.group),
    },
  });
