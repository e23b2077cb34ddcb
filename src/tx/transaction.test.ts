import { describe, expect, it } from "vitest";
import { systemRandom } from "../adapters/system/system-random.ts";
import { machineClock, systemTimers } from "../adapters/system/system-time.ts";
import type { MessageId } from "../message/id.ts";
import { uncheckedClock } from "../runtime/clock.ts";
import type { DatabaseFailure, JoinedTransaction, SqlExecutor } from "./database.port.ts";
import type { ProveInside } from "./half/half-transactions.ts";
import { createHalfTxMode } from "./half/half-tx-mode.ts";
import type { OutboxWriter } from "./outbox.port.ts";
import { createOutboxMode } from "./outbox-mode.ts";
import { Transactions } from "./transaction.ts";
import { TxCounts } from "./tx-counts.ts";
import type { TxMode } from "./tx-mode.port.ts";

// What a transaction asks of the database and of its halves, with both scripted; the real ones are met in test/tx.

class Refusal extends Error {
  readonly failure: DatabaseFailure;
  constructor(failure: DatabaseFailure) {
    super(failure);
    this.failure = failure;
  }
}

const world = ({ commits = ["ok"] as ("ok" | DatabaseFailure)[], isFenced = false } = {}) => {
  const done: string[] = [];
  /** What fails from now on, each time. */
  const failing = new Map<string, DatabaseFailure>();
  const note = async (what: string): Promise<void> => {
    const failure = failing.get(what);
    if (failure !== undefined) throw new Refusal(failure);
    done.push(what);
  };
  const writer: OutboxWriter = {
    write: () => note("row"),
    remove: () => note("remove"),
    lockLane: () => note("lane"),
    touch: () => note("touch"),
    mark: () => note("mark"),
    letGo: () => note("let go"),
    drop: () => note("drop"),
    markBeside: async () => {
      await note("mark beside");
      return isFenced ? "fenced" : "marked";
    },
    setSavepoint: (_, name) => note(`set ${name}`),
    releaseSavepoint: (_, name) => note(`release ${name}`),
  };
  const clock = uncheckedClock(machineClock);
  const classify = (error: unknown): DatabaseFailure => (error instanceof Refusal ? error.failure : "no-answer");
  const common = { writer, classify, marks: true, clock, random: systemRandom };
  const outbox = createOutboxMode({
    ...common,
    shardCount: 16,
    order: "key",
    graceMs: 0,
    fastPath: undefined,
    relayExpects: () => {},
    canCancel: false,
  });
  const half = {
    begin: () => ({
      add: () => note("half row"),
      beforeCommit: () => note("halves"),
      ended: (how: string) => note(`halves ${how}`),
    }),
    sendJoined: async (_sql: unknown, _txId: string, _message: unknown, prove: ProveInside) => {
      await prove("half-1" as MessageId, { write: () => note("half row"), takeBack: () => note("half back") });
      await note("joined half");
    },
  };
  const mode: TxMode = createHalfTxMode({
    ...common,
    half: half as never,
    otherwise: outbox,
    topics: new Set(["half"]),
    delayedTopics: new Set(),
  });
  const sql: SqlExecutor = { execute: async () => [] };
  const transactions = new Transactions<null>({
    db: {
      async transaction(work) {
        const result = await work(null, sql);
        const commit = commits.shift() ?? "ok";
        if (commit !== "ok") throw new Refusal(commit);
        return result;
      },
    },
    mode,
    ...common,
    timers: systemTimers,
    counts: new TxCounts(),
    rolledBack: () => done.push("seen rolled back"),
    endedInside: () => note("noted as ended inside"),
  });
  const joined: JoinedTransaction = { ...sql, connection: sql, fault: () => undefined };
  return { transactions, joined, done, failing };
};

const plain = { topic: "plain", body: "x" };
const half = { topic: "half", body: "x" };

describe("a transaction", () => {
  it("whose COMMIT is answered with a deadlock tells its halves so, and runs again", async () => {
    const { transactions, done } = world({ commits: ["deadlock", "ok"] });
    await transactions.run(async (_, q) => void (await q.send(half)));
    const once = ["set whole", "half row", "release whole", "mark", "halves"];
    expect(done).toEqual([...once, "halves rolled-back", "seen rolled back", ...once, "halves committed"]);
  });

  it("with a half and a plain message that failed and was caught is marked and proven all the same", async () => {
    const { transactions, done, failing } = world();
    failing.set("row", "refused");
    await transactions.run(async (_, q) => {
      await q.send(half);
      await expect(q.send(plain)).rejects.toThrow("refused");
    });
    expect(done).toEqual(["set whole", "half row", "release whole", "mark", "halves", "halves committed"]);
    failing.set("release whole", "savepoint-gone");
    const ended = transactions.run(async (_, q) => {
      await q.send(half);
      await q.send(plain).catch(() => {});
    });
    await expect(ended).rejects.toMatchObject({ code: "transaction_ended_inside" });
  });

  it("that ended before its callback threw is not seen rolled back, nor is one of which nobody knows", async () => {
    const cases: [DatabaseFailure, unknown, string, string[]][] = [
      ["savepoint-gone", new Error("later"), "transaction_ended_inside", ["noted as ended inside"]],
      ["no-answer", new Error("later"), "later", []],
      // The server may roll back everything at such a timeout; nothing was committed by it, as far as is known.
      ["savepoint-gone", new Refusal("lock-wait-timeout"), "lock_wait_timeout", []],
    ];
    for (const [failure, thrown, expected, noted] of cases) {
      const { transactions, done, failing } = world();
      failing.set("release whole", failure);
      const error = await transactions.run(() => Promise.reject(thrown)).catch((one: unknown) => one);
      expect([(error as { code?: string }).code, (error as Error).message]).toContain(expected);
      expect(done).toEqual(["set whole", ...noted]);
    }
    const { transactions, done } = world();
    await expect(transactions.run(() => Promise.reject(new Error("later")))).rejects.toThrow("later");
    expect(done).toEqual(["set whole", "release whole", "seen rolled back"]);
  });
});

describe("a joined transaction", () => {
  it("with halves only is marked, with each of them", async () => {
    const { transactions, joined, done } = world();
    const q = transactions.join(joined);
    for (let i = 0; i < 2; i++) await q.send(half);
    const one = ["set join", "half row", "release join", "mark beside", "joined half"];
    expect(done).toEqual([...one, ...one]);
  });

  it("that was fenced sends nothing any more, in either way", async () => {
    const { transactions, joined, done } = world({ isFenced: true });
    const q = transactions.join(joined);
    for (const message of [half, plain]) await expect(q.send(message)).rejects.toMatchObject({ code: "fenced" });
    expect(done).not.toContain("joined half");
    expect(done).not.toContain("let go");
    expect(done.filter((what) => what === "half back" || what === "drop")).toEqual(["half back", "drop"]);
  });
});

describe("a send whose promise nobody waits for", () => {
  it("fails the transaction, when it failed before the callback ended and when it was under way", async () => {
    for (const pauses of [0, 10]) {
      const { transactions, failing, done } = world();
      failing.set("row", "refused");
      const running = transactions.run(async (_, q) => {
        q.send(plain);
        for (let i = 0; i < pauses; i++) await new Promise((resolve) => setImmediate(resolve));
      });
      await expect(running).rejects.toThrow("refused");
      expect(done.at(-1)).toBe("seen rolled back");
    }
  });
});
