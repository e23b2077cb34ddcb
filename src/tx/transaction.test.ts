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
import { Transactions, type TxSender } from "./transaction.ts";
import { TxCounts } from "./tx-counts.ts";
import { TxError } from "./tx-error.ts";
import type { TxMode } from "./tx-mode.port.ts";

// What a transaction asks of the database and of its halves, with both scripted; the real ones are met in test/tx.

class Refusal extends Error {
  readonly failure: DatabaseFailure;
  constructor(failure: DatabaseFailure) {
    super(failure);
    this.failure = failure;
  }
}

const world = ({
  commits = ["ok"] as ("ok" | DatabaseFailure)[],
  isFenced = false,
  isPartCommitted = async () => false,
} = {}) => {
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
  let halfRefusal: Error | undefined;
  const refuseHalves = (refusal: Error): void => {
    halfRefusal = refusal;
  };
  const half = {
    begin: () => ({
      add: async () => {
        if (halfRefusal !== undefined) throw halfRefusal;
        await note("half row");
      },
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
    isPartCommitted: () => {
      done.push("asked");
      return isPartCommitted();
    },
  });
  const joined: JoinedTransaction = { ...sql, connection: sql, fault: () => undefined };
  return { transactions, joined, done, failing, refuseHalves };
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

describe("a deadlock inside the callback", () => {
  const meetingOne = async (over: Parameters<typeof world>[0], sends: boolean) => {
    const { transactions, done } = world(over);
    let runs = 0;
    const outcome = await transactions
      .run(async (_, q) => {
        runs++;
        if (sends) await q.send(plain);
        if (runs === 1) throw new Refusal("deadlock");
      })
      .catch((error: unknown) => error);
    return { outcome, runs, done };
  };

  it("runs it again when nothing of it is committed, and asks only if it has sent something", async () => {
    const once = ["set whole", "row"];
    const sent = await meetingOne({}, true);
    expect([sent.outcome, sent.runs]).toEqual([undefined, 2]);
    expect(sent.done).toEqual([...once, "asked", "seen rolled back", ...once, "release whole", "mark"]);
    const silent = await meetingOne({ isPartCommitted: async () => true }, false);
    expect([silent.outcome, silent.runs]).toEqual([undefined, 2]);
    expect(silent.done).not.toContain("asked");
  });

  it("does not run it again, nor say rolled back, when a part of it is committed or nobody can say", async () => {
    const ended = await meetingOne({ isPartCommitted: async () => true }, true);
    expect(ended.outcome).toMatchObject({ code: "transaction_ended_inside", cause: { failure: "deadlock" } });
    expect([ended.runs, ended.done.slice(-2)]).toEqual([1, ["asked", "noted as ended inside"]]);
    const unsaid = await meetingOne({ isPartCommitted: () => Promise.reject(new Error("away")) }, true);
    expect(unsaid.outcome).toMatchObject({ message: "away" });
    expect([unsaid.runs, unsaid.done.at(-1)]).toEqual([1, "asked"]);
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

it("a message or reference with an unknown field, or none at all, is refused by every sender before anything is written", async () => {
  const { transactions, joined, done } = world();
  const mistaken = [{ ...plain, dealy: "30m" } as never, undefined as never];
  const senders = [transactions.join(joined)];
  await transactions.run(async (_, q) => {
    for (const sender of [...senders, q]) {
      for (const one of mistaken) {
        const code = one === undefined ? "invalid_request" : "unknown_field";
        await expect(sender.send(one)).rejects.toMatchObject({ code });
        await expect(sender.cancel(one)).rejects.toMatchObject({ code });
      }
    }
  });
  expect(done).toEqual(["set whole", "release whole", "mark"]);
});

describe("a name (dedupe) of a transaction", () => {
  const named = (topic: string, messageGroup?: string) => ({
    topic,
    body: "x",
    dedupe: "order-7",
    ...(messageGroup === undefined ? undefined : { messageGroup }),
  });
  const refused = { code: "invalid_field", field: "dedupe", message: expect.stringContaining("emails") };

  it("is one message over all topics: another topic under it is refused, in its own and in a joined one", async () => {
    const { transactions, joined } = world();
    const joinedOne = transactions.join(joined);
    for (const run of [
      (work: (q: TxSender) => Promise<void>) => transactions.run((_, q) => work(q)),
      (work: (q: TxSender) => Promise<void>) => work(joinedOne),
    ]) {
      await run(async (q) => {
        await q.send(named("orders"));
        await expect(q.send(named("emails"))).rejects.toMatchObject(refused);
        await q.send(named("orders"));
        await q.send(named("emails", "another group"));
      });
    }
    const atOnce = transactions.run((_, q) => Promise.all([q.send(named("orders")), q.send(named("emails"))]));
    await expect(atOnce).rejects.toMatchObject(refused);
  });

  it("is free again when the message was refused", async () => {
    const { transactions, failing } = world();
    await transactions.run(async (_, q) => {
      failing.set("row", "refused");
      await expect(q.send(named("orders"))).rejects.toThrow("refused");
      failing.clear();
      await q.send(named("emails"));
    });
  });
});

describe("a send that meets a fence", () => {
  it("fails its transaction also when the callback has caught it: somebody was told that it is rolled back", async () => {
    for (const code of ["half_fenced", "fenced"] as const) {
      const { transactions, done, refuseHalves } = world();
      refuseHalves(new TxError(code, "told so"));
      const running = transactions.run(async (_, q) => {
        await q.send(half).catch(() => {});
        await q.send(plain);
      });
      await expect(running).rejects.toMatchObject({ code });
      expect(done).toEqual(["set whole", "row", "release whole", "seen rolled back"]);
    }
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

  it("fails the transaction also when it was begun by what follows from another one", async () => {
    for (const steps of [1, 8]) {
      const { transactions, failing } = world();
      const running = transactions.run(async (_, q) => {
        let following: Promise<unknown> = q.send(half);
        for (let i = 1; i < steps; i++) following = following.then(() => {});
        following.then(() => {
          failing.set("row", "refused");
          q.send(plain);
        });
      });
      await expect(running).rejects.toThrow("refused");
    }
  });

  it("and that comes after its callback is reported by Node; not what follows from sends of one that failed", async () => {
    const unhandled: unknown[] = [];
    const others = process.listeners("unhandledRejection");
    process.removeAllListeners("unhandledRejection").on("unhandledRejection", (reason) => unhandled.push(reason));
    try {
      for (const result of ["went well", "failed"]) {
        const { transactions } = world();
        const senders: TxSender[] = [];
        const running = transactions.run(async (_, q) => {
          senders.push(q);
          if (result === "went well") return;
          q.send(plain).then(() => {
            q.send(plain);
          });
          throw new Error("no");
        });
        await running.catch(() => {});
        expect(unhandled).toEqual([]);
        senders[0]!.send(plain);
        for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
        expect(unhandled.splice(0)).toMatchObject([{ code: "not_a_transaction" }]);
      }
    } finally {
      process.removeAllListeners("unhandledRejection");
      for (const one of others) process.on("unhandledRejection", one);
    }
  });
});
