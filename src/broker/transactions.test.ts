import { afterEach, describe, expect, it, vi } from "vitest";
import { silentLog } from "../runtime/log.ts";
import type { BrokerMessage } from "./broker-message.ts";
import type { Deliveries, Delivery } from "./delivery/deliveries.port.ts";
import { messageTo } from "./testing/assembled.ts";
import { Transactions } from "./transactions.ts";

/** Half messages that a test lets come again when it likes, as if their time had passed. */
class HalfTopic {
  readonly acknowledged: string[] = [];
  /** Acknowledgements that fail from now on. */
  refusals = 0;
  /** Nothing is received. */
  held = false;
  readonly #stored: BrokerMessage[] = [];
  readonly #attempts: number[] = [];
  #waiting: (() => void) | undefined;
  #due: number[] = [];

  readonly deliveries = {
    receive: async (request: { waitMs: number }, signal: AbortSignal) => {
      if (this.#due.length === 0 && request.waitMs > 0) {
        await new Promise<void>((resolve) => {
          this.#waiting = resolve;
          signal.addEventListener("abort", () => resolve(), { once: true });
        });
      }
      if (this.held) return [];
      return this.#due.splice(0).map((i): Delivery => {
        const attempt = (this.#attempts[i] ?? 0) + 1;
        this.#attempts[i] = attempt;
        const stored = { ...this.#stored[i]!, queueId: 0, queueOffset: i, storedAtMs: 0 };
        return { message: stored, handle: `${i}#${attempt}`, attempt };
      });
    },
    acknowledge: async (_group: string, _topic: string, handles: readonly string[]) => {
      if (this.refusals > 0) {
        this.refusals--;
        throw new Error("the disk is full");
      }
      this.acknowledged.push(...handles);
      return handles.map(() => "ok" as const);
    },
  } as unknown as Deliveries;

  append = async (_topic: string, _queueId: number, [message]: readonly BrokerMessage[]): Promise<number> => {
    this.#due.push(this.#stored.length);
    return this.#stored.push(message!) - 1;
  };

  async comesAgain(i: number): Promise<void> {
    this.#due.push(i);
    this.#waiting?.();
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

let running: Transactions | undefined;
afterEach(() => running?.stop());

const start = (deliver: (message: BrokerMessage) => Promise<unknown>) => {
  const half = new HalfTopic();
  const asked: string[] = [];
  const timers = {
    after: (delayMs: number, callback: () => void) => {
      const timeout = setTimeout(callback, delayMs);
      return { cancel: () => clearTimeout(timeout) };
    },
  };
  const { deliveries, append } = half;
  running = new Transactions({ deliveries, append, deliver, checkAfterMs: 1_000, timers, log: silentLog });
  running.onCheck((_message, transactionId) => asked.push(transactionId) > 0);
  running.start();
  return { half, asked, transactions: running };
};

describe("the end of a transaction", () => {
  it("that takes longer than the time to the next check is not asked about, and happens once", async () => {
    const delivered: string[] = [];
    let finish = () => {};
    const { half, asked, transactions } = start(
      (message) =>
        new Promise((resolve) => {
          delivered.push(message.messageId);
          finish = () => resolve(0);
        }),
    );
    const { transactionId } = await transactions.begin(messageTo("t", "slow", { messageId: "M" }));
    const ended = transactions.end(transactionId, "commit");
    await half.comesAgain(0);
    expect(asked).toEqual([]);
    await expect(transactions.end(transactionId, "commit")).rejects.toThrow("no such open transaction");
    finish();
    await ended;
    expect(delivered).toEqual(["M"]);
    // By its newest handle: the one it was begun with is worth nothing any more.
    expect(half.acknowledged).toEqual(["0#2"]);
  });

  it("is noted again when it comes back nevertheless, without a question", async () => {
    const { half, asked, transactions } = start(async () => 0);
    const { transactionId } = await transactions.begin(messageTo("t", "x"));
    await transactions.end(transactionId, "commit");
    await half.comesAgain(0);
    expect(asked).toEqual([]);
    expect(half.acknowledged).toEqual(["0#1", "0#2"]);
  });

  it("that cannot be stored leaves it open: it is asked about again, and can be ended then", async () => {
    let full = true;
    const { half, asked, transactions } = start(async () => {
      if (full) throw new Error("the disk is full");
    });
    const { transactionId } = await transactions.begin(messageTo("t", "x"));
    await expect(transactions.end(transactionId, "commit")).rejects.toThrow("disk is full");
    expect(half.acknowledged).toEqual([]);
    full = false;
    await half.comesAgain(0);
    expect(asked).toEqual([transactionId]);
    await transactions.end(transactionId, "commit");
    expect(half.acknowledged).toEqual(["0#2"]);
  });

  it("that cannot be noted when it comes back is noted the next time; nothing else happens", async () => {
    const { half, asked, transactions } = start(async () => 0);
    const { transactionId } = await transactions.begin(messageTo("t", "x"));
    await transactions.end(transactionId, "commit");
    half.refusals = 1;
    await half.comesAgain(0);
    await vi.waitFor(() => expect(half.refusals).toBe(0)); // a rejection that nobody hears would end the process
    await half.comesAgain(0);
    await vi.waitFor(() => expect(half.acknowledged).toEqual(["0#1", "0#3"]));
    expect(asked).toEqual([]);
  });
});

it("whoever begins a transaction while the broker stops is told so, and not left waiting", async () => {
  const { half, transactions } = start(async () => 0);
  half.held = true;
  const beginning = transactions.begin(messageTo("t", "x"));
  await new Promise((resolve) => setImmediate(resolve));
  const refused = expect(beginning).rejects.toThrow("stopping");
  await transactions.stop();
  await refused;
  await expect(transactions.begin(messageTo("t", "y"))).rejects.toThrow("stopping");
});
