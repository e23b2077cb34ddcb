import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { DelayedMessage } from "../message/message.ts";
import { isEnded, type MessageEvent, type MessageState, messageStates, nextState } from "../message/state.ts";
import { hour, minute } from "../message/time.ts";
import type { DelayStoreFactory } from "./delay-store.contract.ts";
import { at, type DelayStoreSubject, deadReason, StoreHands, t0 } from "./delay-store-hands.ts";

/** The contract about states: every verb tried on a message of every state, held against message/state.ts. */
export const delayStoreStatesContract = (factory: DelayStoreFactory): void => {
  describe("states", () => {
    let subject: DelayStoreSubject;
    let hands: StoreHands;
    beforeEach(async () => {
      subject = await factory({});
      hands = new StoreHands(subject);
      await hands.own();
    });
    afterEach(() => subject.close());

    describe("every state and every verb", () => {
      /** What each verb makes of a message, said with the events of the state table. */
      const verbs: Record<string, { event: (state: MessageState) => MessageEvent | undefined; act: Act }> = {
        "schedule again, keep": {
          event: () => undefined,
          act: async (message, _moved, state) => {
            expect(await hands.scheduleOne(message, { onConflict: "keep" })).toMatchObject({ outcome: "kept", state });
          },
        },
        "schedule again, replace": {
          event: (state) => (state === "scheduled" ? "reschedule" : "revive"),
          act: async (message, moved) => {
            const { outcome } = await hands.scheduleOne(message, { onConflict: "replace" });
            expect(outcome).toBe(moved ? "replaced" : "too_late");
          },
        },
        cancel: {
          event: () => "cancel",
          act: async (message, moved, state) => {
            const result = await hands.cancel(message, at(7));
            const done = moved || state === "canceled";
            expect(result).toMatchObject({ outcome: done ? "done" : "too_late", state: done ? "canceled" : state });
          },
        },
        reschedule: {
          event: () => "reschedule",
          act: async (message, moved, state) => {
            const result = await hands.reschedule(message, { deliverAtMs: at(70) });
            expect(result).toMatchObject({ outcome: moved ? "done" : "too_late", state });
          },
        },
        "bury what is known already": {
          event: () => undefined,
          act: (message) => hands.store.bury(hands.shard, [{ message, reason: deadReason }], t0),
        },
        revive: {
          event: (state) => (state === "dead" ? "revive" : undefined),
          act: async (message, moved) => expect(await hands.revive(message)).toBe(moved),
        },
        "revive another death": {
          event: () => undefined,
          act: async (message) => expect(await hands.revive(message, at(-1))).toBe(false),
        },
        discard: {
          event: () => "discard",
          act: async (message, moved) => expect(await hands.discard(message)).toBe(moved),
        },
        "discard another death": {
          event: () => undefined,
          act: async (message) => expect(await hands.discard(message, at(1))).toBe(false),
        },
        claim: {
          event: () => "claim",
          act: async (message, moved, state) => {
            const { claimed, gone } = await hands.claim([message]);
            expect([claimed.length, gone]).toEqual(moved || state === "claimed" ? [1, 0] : [0, 1]);
          },
        },
        "claim when its time has run out": {
          event: () => "expire",
          act: async (message, moved, state) => {
            const { claimed, gone, expired } = await hands.claim([message], at(hour));
            const other = state === "claimed" ? [1, 0, 0] : [0, 1, 0];
            expect([claimed.length, gone, expired]).toEqual(moved ? [0, 0, 1] : other);
          },
        },
        "settle as delivered": { event: () => "deliver", act: (message) => hands.delivered(message) },
        "settle as retry": { event: () => "retry", act: (message) => hands.retry(message, at(9)) },
        "settle as given back": { event: () => "give_back", act: (message) => hands.giveBack(message) },
        "settle as buried": { event: () => "bury", act: (message) => hands.buryClaimed(message) },
        "recover by the next owner": {
          event: () => "give_back",
          act: async (_message, moved) => {
            await hands.own("node-b");
            expect(await hands.recover()).toBe(moved ? 1 : 0);
          },
        },
      };
      type Act = (message: DelayedMessage, moved: boolean, state: MessageState) => Promise<unknown>;

      for (const state of messageStates) {
        for (const [verb, { event, act }] of Object.entries(verbs)) {
          const happening = event(state);
          const next = happening === undefined ? undefined : nextState(state, happening);
          it(`${state}, then ${verb}: ${next === undefined ? "stays" : next}`, async () => {
            const message = await hands.bring(state, verb.includes("run out") ? { expireAtMs: at(minute) } : {});
            const before = await hands.get(message);
            await act(message, next !== undefined, state);
            const after = await hands.get(message);
            expect(after?.state).toBe(next ?? state);
            if (next === undefined) expect(after).toEqual(before);
            expect(await hands.near()).toEqual(after?.state === "scheduled" ? [message.id] : []);
            expect(await hands.deadIds()).toEqual(after?.state === "dead" ? [message.id] : []);
            const { claimed, dead, waitingByTopic } = await hands.store.stats(hands.shard, t0);
            expect({ claimed, dead, waiting: waitingByTopic.get("orders") ?? 0 }).toEqual({
              claimed: after?.state === "claimed" ? 1 : 0,
              dead: after?.state === "dead" ? 1 : 0,
              waiting: after?.state === "scheduled" ? 1 : 0,
            });
            const isWhole = after !== undefined && (!isEnded(after.state) || after.state === "dead");
            expect(after?.message?.id).toBe(isWhole ? message.id : undefined);
            expect(after?.endedAtMs === undefined).toBe(after !== undefined && !isEnded(after.state));
          });
        }
      }

      it("an unknown id is answered as such by every verb", async () => {
        const unknown = hands.message();
        expect(await hands.get(unknown)).toBeUndefined();
        expect(await hands.cancel(unknown)).toEqual({ outcome: "not_found" });
        expect(await hands.reschedule(unknown, { deliverAtMs: at(1) })).toEqual({ outcome: "not_found" });
        expect(await hands.revive(unknown)).toBe(false);
        expect(await hands.discard(unknown)).toBe(false);
        expect(await hands.claim([unknown])).toMatchObject({ claimed: [], later: [], gone: 1, expired: 0 });
        for (const settle of [hands.delivered, hands.giveBack, hands.buryClaimed]) await settle.call(hands, unknown);
        await hands.retry(unknown, at(1));
        expect(await hands.get(unknown)).toBeUndefined();
        expect(await hands.near()).toEqual([]);
        expect(await hands.deadIds()).toEqual([]);
      });
    });
  });
};
