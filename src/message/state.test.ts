import { describe, expect, it } from "vitest";
import { isEnded, type MessageEvent, type MessageState, messageStates, nextState } from "./state.ts";

/**
 * The whole table, drawn a second time by hand. A change of state.ts has to be drawn here too; a dot is a move that
 * does not exist.
 */
const drawn = `
             claim    deliver    retry      give_back  bury  cancel    expire   reschedule  revive     discard
  scheduled  claimed  .          .          .          .     canceled  expired  scheduled   .          .
  claimed    .        delivered  scheduled  scheduled  dead  .         .        .           .          .
  delivered  .        .          .          .          .     .         .        .           .          .
  dead       .        .          .          .          .     .         .        .           scheduled  canceled
  canceled   .        .          .          .          .     .         .        .           scheduled  .
  expired    .        .          .          .          .     .         .        .           scheduled  .
`;

const [header, ...rows] = drawn
  .trim()
  .split("\n")
  .map((line) => line.trim().split(/\s+/));
const events = header as MessageEvent[];

describe("the state table", () => {
  it("knows exactly the states that are drawn", () => {
    expect([...messageStates].sort()).toEqual(rows.map(([state]) => state).sort());
  });

  for (const [state, ...cells] of rows) {
    for (const [i, event] of events.entries()) {
      const cell = cells[i];
      it(`${state}, ${event}: ${cell === "." ? "no such move" : cell}`, () => {
        expect(nextState(state as MessageState, event)).toBe(cell === "." ? undefined : cell);
      });
    }
  }

  it("every state can be reached from scheduled", () => {
    const reached = new Set<MessageState>(["scheduled"]);
    for (const state of reached) {
      for (const event of events) {
        const next = nextState(state, event);
        if (next !== undefined) reached.add(next);
      }
    }
    expect(reached).toEqual(new Set(messageStates));
  });

  it("P4: no way leads from canceled to claimed but being scheduled anew", () => {
    const ways = events.filter((event) => nextState("canceled", event) !== undefined);
    expect(ways).toEqual(["revive"]);
  });

  it("P7: only a claim, where the attempt is counted, leads to a send", () => {
    const waysInto = (target: MessageState) =>
      messageStates.flatMap((state) => events.filter((event) => nextState(state, event) === target));
    expect(waysInto("claimed")).toEqual(["claim"]);
    expect(messageStates.filter((state) => nextState(state, "deliver") !== undefined)).toEqual(["claimed"]);
  });

  it("what has ended does nothing by itself, and what was delivered nothing at all", () => {
    expect(messageStates.filter(isEnded).sort()).toEqual(["canceled", "dead", "delivered", "expired"]);
    for (const state of messageStates.filter(isEnded)) {
      for (const event of events) {
        if (nextState(state, event) === undefined) continue;
        expect(event === "revive" || (state === "dead" && event === "discard")).toBe(true);
      }
    }
    expect(events.filter((event) => nextState("delivered", event) !== undefined)).toEqual([]);
  });
});
