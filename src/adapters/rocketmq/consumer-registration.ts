import type { Log } from "../../runtime/log.ts";
import type { Timers } from "../../runtime/timers.ts";
import { encodeHeartbeat, encodeSettings, encodeTermination, type Subscription } from "./protocol.ts";
import { createRegistration, type Registration } from "./registration.ts";
import type { Session } from "./session.ts";

/** A registration as a simple consumer of one topic or several. */
export type ConsumerRegistrationOptions = {
  readonly session: Session;
  /** All of one group. */
  readonly subscriptions: readonly [Subscription, ...Subscription[]];
  readonly pollMs: number;
  readonly timers: Timers;
  readonly log: Log;
};

export const createConsumerRegistration = (options: ConsumerRegistrationOptions): Registration => {
  const { session, subscriptions, pollMs, timers, log } = options;
  const { group } = subscriptions[0];
  return createRegistration({
    session,
    timers,
    log,
    who: { group, topic: subscriptions.map(({ topic }) => topic).join(" ") },
    words: {
      settings: encodeSettings(subscriptions, pollMs),
      heartbeat: encodeHeartbeat(group),
      goodbye: encodeTermination(group),
    },
  });
};
