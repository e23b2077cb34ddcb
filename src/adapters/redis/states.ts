import type { MessageState } from "../../message/state.ts";

/** The numbers that scripts use for states; stored in tombstones, so they never change. */
const states: readonly MessageState[] = ["scheduled", "claimed", "delivered", "dead", "canceled", "expired"];

export const stateOf = (number: number): MessageState => {
  const state = states[number];
  if (state === undefined) throw new Error(`a state of number ${number}, which no script writes`);
  return state;
};
