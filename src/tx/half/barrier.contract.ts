import { randomBytes, randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { type MessageId, timeOrderedId } from "../../message/id.ts";
import type { BarrierEntry, BarrierStore } from "./barrier.port.ts";

/** What half mode may rely on, whatever keeps the barrier. */
export type BarrierUnderTest<Tx> = {
  readonly barrier: BarrierStore<Tx>;
  begin(): Promise<Tx>;
  commit(tx: Tx): Promise<void>;
  rollback(tx: Tx): Promise<void>;
  /** Lets this much time pass for the barrier. */
  pass(ms: number): Promise<void>;
};

const turnMs = 150;

export const describeBarrier = <Tx>(name: string, open: () => Promise<BarrierUnderTest<Tx>>): void => {
  const anEntry = (over: Partial<BarrierEntry> = {}): BarrierEntry => ({
    id: timeOrderedId(1_800_000_000_000, randomBytes(10), 0),
    txId: randomUUID(),
    topic: "orders",
    kept: Buffer.from("kept"),
    ...over,
  });
  const committed = async ({ barrier, begin, commit }: BarrierUnderTest<Tx>, entry = anEntry(), forMs = turnMs) => {
    const tx = await begin();
    expect(await barrier.enlist(tx, entry, forMs)).toBe("enlisted");
    await commit(tx);
    return entry;
  };

  describe(`the barrier in ${name}`, () => {
    it("TX-18: once a check was told that a message is rolled back, its business transaction cannot enter it", async () => {
      const under = await open();
      const entry = anEntry();
      expect(await under.barrier.judge(entry, turnMs)).toEqual({ state: "rolled-back" });
      const tx = await under.begin();
      expect(await under.barrier.enlist(tx, entry, turnMs)).toBe("fenced");
      await under.rollback(tx);
      expect(await under.barrier.judge(entry, turnMs)).toEqual({ state: "rolled-back" });
      expect(await under.barrier.ofTransaction(entry.txId)).toMatchObject([{ id: entry.id, state: "rolled-back" }]);
    });

    it("TX-17: while the business transaction is open nothing is known", async () => {
      const under = await open();
      const entry = anEntry();
      const tx = await under.begin();
      await under.barrier.enlist(tx, entry, turnMs);
      expect(await under.barrier.judge(entry, turnMs)).toMatchObject({ state: "unknown", because: "open" });
      await under.commit(tx);
      expect(await under.barrier.judge(entry, turnMs)).toMatchObject({ state: "committed" });
    });

    it("a held row is nobody's turn and no trace, until it is let go", async () => {
      const under = await open();
      const [held, free] = [anEntry(), anEntry()];
      const tx = await under.begin();
      for (const entry of [held, free]) await under.barrier.enlist(tx, entry, "held");
      await under.barrier.letGo(tx, free.id, turnMs);
      await under.commit(tx);
      await under.pass(turnMs * 2);
      const overdue = (await under.barrier.claimOverdue({ overdueMs: 0, turnMs, limit: 10 })).map(({ id }) => id);
      expect([overdue.includes(held.id), overdue.includes(free.id)]).toEqual([false, true]);
      expect(await under.barrier.ofTransaction(held.txId)).toEqual([]);
      expect(await under.barrier.ofTransaction(free.txId)).toMatchObject([{ id: free.id }]);
    });

    it("forgets what is old without waiting for those who are at work", async () => {
      const under = await open();
      const entry = anEntry();
      const tx = await under.begin();
      await under.barrier.enlist(tx, entry, "held");
      await under.barrier.letGo(tx, entry.id, turnMs);
      const startedMs = performance.now();
      await under.barrier.purge(3_600_000, 500);
      expect(performance.now() - startedMs).toBeLessThan(1_000);
      await under.commit(tx);
    });

    it("a transaction that was rolled back leaves nothing, and the first check settles that for good", async () => {
      const under = await open();
      const entry = anEntry();
      const tx = await under.begin();
      await under.barrier.enlist(tx, entry, turnMs);
      await under.rollback(tx);
      expect(await under.barrier.isCommitted(entry.id)).toBe(false);
      expect(await under.barrier.judge(entry, turnMs)).toEqual({ state: "rolled-back" });
    });

    it("gives the turn to one at a time, and to nobody once the message was seen", async () => {
      const under = await open();
      const { barrier } = under;
      const entry = await committed(under, anEntry({ topic: "turns" }));
      expect(await barrier.judge(entry, turnMs)).toEqual({ state: "committed", seen: false, turn: false });
      expect(await barrier.takeTurn(entry.id, turnMs)).toBe(false);
      await under.pass(turnMs + 50);
      const turns = await Promise.all(
        Array.from({ length: 6 }, async (_, i) => {
          if (i % 2 === 0) return barrier.takeTurn(entry.id, turnMs * 20);
          const verdict = await barrier.judge(entry, turnMs * 20);
          return verdict.state === "committed" && verdict.turn;
        }),
      );
      expect(turns.filter((mine) => mine)).toHaveLength(1);
      expect(await barrier.see([entry.id])).toBe(1);
      expect(await barrier.see([entry.id])).toBe(0);
      await under.pass(50);
      expect(await barrier.judge(entry, turnMs)).toEqual({ state: "committed", seen: true, turn: false });
      expect(await barrier.claimOverdue({ overdueMs: -60_000, turnMs, limit: 10, topics: ["turns"] })).toEqual([]);
    });

    it("hands what is overdue to one, whole, and later each time", async () => {
      const under = await open();
      const { barrier } = under;
      const entry = await committed(under, anEntry({ topic: "overdue" }), 0);
      await under.pass(30);
      const wanted = { overdueMs: 0, turnMs, limit: 10 };
      expect(await barrier.claimOverdue({ ...wanted, overdueMs: 60_000 })).toEqual([]);
      expect(await barrier.claimOverdue({ ...wanted, topics: ["others"] })).toEqual([]);
      expect(await barrier.claimOverdue({ ...wanted, topics: [] })).toEqual([]);
      const both = await Promise.all([
        barrier.claimOverdue({ ...wanted, topics: ["overdue"] }),
        barrier.claimOverdue(wanted),
      ]);
      const [claimed, ...others] = both.flat().filter(({ topic }) => topic === "overdue");
      expect(claimed).toMatchObject({ id: entry.id, txId: entry.txId, resends: 0 });
      expect(Buffer.from(claimed!.kept).toString()).toBe("kept");
      expect(others).toEqual([]);
      await under.pass(turnMs + 50);
      expect((await barrier.claimOverdue({ ...wanted, topics: ["overdue"] })).map(({ resends }) => resends)).toEqual([
        1,
      ]);
      await under.pass(turnMs + 20);
      expect(await barrier.claimOverdue({ ...wanted, topics: ["overdue"] })).toEqual([]);
    });

    it("knows inside a transaction what that has entered", async () => {
      const under = await open();
      const tx = await under.begin();
      const txId = randomUUID();
      const entries = [anEntry({ txId }), anEntry({ txId }), anEntry()];
      for (const entry of entries) await under.barrier.enlist(tx, entry, turnMs);
      const ids = entries.slice(0, 2).map(({ id }) => id);
      expect(await under.barrier.surviving(tx, txId)).toEqual(new Set<MessageId>(ids));
      await under.barrier.withdraw(tx, ids[0]!);
      expect(await under.barrier.surviving(tx, txId)).toEqual(new Set<MessageId>(ids.slice(1)));
      await under.rollback(tx);
    });

    it("forgets what is settled and old, and never what nobody has seen", async () => {
      const under = await open();
      const { barrier } = under;
      const unseen = await committed(under);
      const seen = await committed(under);
      await barrier.see([seen.id]);
      await under.pass(30);
      await barrier.purge(10, 1_000);
      expect(await barrier.isCommitted(unseen.id)).toBe(true);
      expect(await barrier.ofTransaction(seen.txId)).toEqual([]);
      // A half of it that somebody resumes after years makes no second copy.
      expect(await barrier.judge(seen, turnMs)).toEqual({ state: "rolled-back" });
    });
  });
};
