/**
 * The states of a message and the only ways between them. Stores keep states in their own layouts; what they may do
 * is decided here, and the contract suite holds every store to this table.
 */

export type MessageState = "scheduled" | "claimed" | "delivered" | "dead" | "canceled" | "expired";

/**
 * What can happen to a message.
 * - `claim`: its owner takes it out for sending; the attempt is counted here.
 * - `deliver`: the target topic has it.
 * - `retry`: the send failed and will be tried later.
 * - `give_back`: it was claimed but not sent (drain, lost owner); the message waits again.
 * - `bury`: no more tries, with a reason; kept whole until an operator decides.
 * - `cancel`, `expire`: it will never be sent.
 * - `reschedule`: another time (and perhaps another body); also what replacing by key does.
 * - `revive`: a message that had ended unsent starts anew: its key was replaced, or it was brought back from the dead.
 * - `discard`: somebody removed it from the dead; like any other it stays known for a while.
 */
export type MessageEvent =
  | "claim"
  | "deliver"
  | "retry"
  | "give_back"
  | "bury"
  | "cancel"
  | "expire"
  | "reschedule"
  | "revive"
  | "discard";

const table: Record<MessageState, Partial<Record<MessageEvent, MessageState>>> = {
  scheduled: { claim: "claimed", cancel: "canceled", expire: "expired", reschedule: "scheduled" },
  claimed: { deliver: "delivered", retry: "scheduled", give_back: "scheduled", bury: "dead" },
  delivered: {},
  dead: { revive: "scheduled", discard: "canceled" },
  canceled: { revive: "scheduled" },
  expired: { revive: "scheduled" },
};

export const messageStates = Object.keys(table) as MessageState[];

/** The state after `event`, or undefined where the table has no such move. */
export const nextState = (state: MessageState, event: MessageEvent): MessageState | undefined => table[state][event];

/** True for states that nothing leaves by itself: it takes a replace by key, or somebody who decides about the dead. */
export const isEnded = (state: MessageState): boolean => state !== "scheduled" && state !== "claimed";
