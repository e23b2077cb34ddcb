import type { MessageId } from "../../../message/id.ts";
import type { BarrierEntry, BarrierStore } from "../barrier.port.ts";

/**
 * The barrier as a readable model: rows in a map, and transactions that hold what they have written until they end. The
 * contract runs against it and against the real database alike. It has no clock but the one it is given.
 */
export type MemoryTx = { readonly rows: Map<MessageId, Row>; open: boolean };

type Row = Partial<BarrierEntry> & {
  state: "committed" | "rolled-back";
  seen: boolean;
  turnAtMs: number | undefined;
  resends: number;
  createdMs: number;
};

export type MemoryBarrier = BarrierStore<MemoryTx> & {
  begin(): MemoryTx;
  commit(tx: MemoryTx): void;
  rollback(tx: MemoryTx): void;
};

export const createMemoryBarrier = (nowMs: () => number): MemoryBarrier => {
  const rows = new Map<MessageId, Row>();
  const open = new Set<MemoryTx>();
  const holder = (id: MessageId) => [...open].find((tx) => tx.rows.has(id));
  const end = (tx: MemoryTx) => {
    tx.open = false;
    open.delete(tx);
  };

  const isHeld = ({ state, seen, turnAtMs }: Row): boolean => state === "committed" && !seen && turnAtMs === undefined;

  const takeTurn = (id: MessageId, turnMs: number): boolean => {
    const row = rows.get(id);
    if (row?.state !== "committed" || row.turnAtMs === undefined || row.turnAtMs > nowMs()) return false;
    row.turnAtMs = nowMs() + turnMs;
    return true;
  };

  return {
    begin() {
      const tx = { rows: new Map(), open: true };
      open.add(tx);
      return tx;
    },
    commit(tx) {
      end(tx);
      for (const [id, row] of tx.rows) rows.set(id, row);
    },
    rollback: end,

    databaseId: async () => "memory",
    async enlist(tx, entry, turnMs) {
      if (rows.has(entry.id) || holder(entry.id) !== undefined) return "fenced";
      const turnAtMs = turnMs === "held" ? undefined : nowMs() + turnMs;
      const fresh = { seen: false, resends: 0, turnAtMs, createdMs: nowMs() };
      tx.rows.set(entry.id, { ...entry, ...fresh, state: "committed" });
      return "enlisted";
    },
    async letGo(tx, id, turnMs) {
      const row = tx.rows.get(id);
      if (row !== undefined && isHeld(row)) row.turnAtMs = nowMs() + turnMs;
    },
    withdraw: async (tx, id) => void tx.rows.delete(id),
    surviving: async (tx, txId) => new Set([...tx.rows].flatMap(([id, row]) => (row.txId === txId ? id : []))),
    async judge({ id, txId }, turnMs) {
      if (holder(id) !== undefined)
        return { state: "unknown", because: "open", detail: "its transaction is still open" };
      const row = rows.get(id);
      if (row === undefined) {
        const settled = { seen: false, turnAtMs: undefined, resends: 0, createdMs: nowMs() };
        rows.set(id, { id, txId, ...settled, state: "rolled-back" });
      }
      if (row === undefined || row.state === "rolled-back") return { state: "rolled-back" };
      return { state: "committed", seen: row.seen, turn: takeTurn(id, turnMs) };
    },
    takeTurn: async (id, turnMs) => takeTurn(id, turnMs),
    isCommitted: async (id) => rows.get(id)?.state === "committed",
    async see(ids) {
      let count = 0;
      for (const id of ids) {
        const row = rows.get(id);
        if (row?.state !== "committed" || row.seen) continue;
        row.seen = true;
        row.turnAtMs = undefined;
        count++;
      }
      return count;
    },
    async claimOverdue({ overdueMs, turnMs, topics, limit }) {
      const overdue = [...rows.values()].filter(
        ({ turnAtMs, topic = "" }) =>
          turnAtMs !== undefined && turnAtMs <= nowMs() - overdueMs && (topics?.includes(topic) ?? true),
      );
      return overdue.slice(0, limit).map((row) => {
        const { resends } = row;
        row.turnAtMs = nowMs() + turnMs * 2 ** Math.min(resends, 8);
        row.resends++;
        return { ...(row as Row & BarrierEntry), resends };
      });
    },
    ofTransaction: async (txId) =>
      [...rows].flatMap(([id, row]) =>
        row.txId === txId && !isHeld(row)
          ? { id, topic: row.topic ?? "", state: row.state, seen: row.seen, resends: row.resends }
          : [],
      ),
    async purge(olderThanMs, limit) {
      const old = [...rows].filter(([, row]) => row.turnAtMs === undefined && row.createdMs < nowMs() - olderThanMs);
      for (const [id] of old.slice(0, limit)) rows.delete(id);
      return Math.min(old.length, limit);
    },
  };
};
