import { MemoryDelayStore } from "../../src/adapters/memory/memory-delay-store.ts";
import type { ClaimResult, NearPage, Outcome, ScheduleItem } from "../../src/delay/delay-store.port.ts";
import { NearSet } from "../../src/delay/near-set.ts";
import { ShardKeeper } from "../../src/delay/shard-keeper.ts";
import { Dispatcher } from "../../src/dispatch/dispatcher.ts";
import type { SendResult } from "../../src/dispatch/sink.port.ts";
import { StoreIntake } from "../../src/ingest/intake.ts";
import type { MessageId } from "../../src/message/id.ts";
import { IdList } from "../../src/message/id-list.ts";
import { type DurationMs, type EpochMs, epochMs } from "../../src/message/time.ts";
import { CheckedClock } from "../../src/runtime/clock.ts";
import { SimSink } from "./sim-sink.ts";
import type { Plant } from "./simulate.ts";
import type { StoreMaker } from "./store-server.ts";

/**
 * Bugs that somebody could make, put in while a simulation runs. If one of them is not caught, the simulation looks
 * away; that is what planted-bugs.test.ts is for. Each says which promise must be seen broken: any other would be luck.
 */
export type PlantedBug = {
  readonly name: string;
  /** One of the broken promises starts so. */
  readonly breaks: RegExp;
  readonly plant: Plant;
};

type Memory = typeof MemoryDelayStore;

/** A store that does one thing wrong. */
export const store =
  (make: (Base: Memory) => Memory): StoreMaker =>
  (options) =>
    new (make(MemoryDelayStore))(options);

/** Replaces a method while the simulation runs. */
export const replaced =
  <T extends object, K extends keyof T>(target: T, name: K, make: (original: T[K]) => T[K]) =>
  () => {
    const before = Object.getOwnPropertyDescriptor(target, name)!;
    Object.defineProperty(target, name, { ...before, value: make(target[name]) });
    return () => void Object.defineProperty(target, name, before);
  };

const results = (change: (result: SendResult) => SendResult) =>
  replaced(
    SimSink.prototype,
    "send",
    (send) =>
      async function (this: SimSink, topic, messages) {
        return (await send.call(this, topic, messages)).map(change);
      },
  );

export const plantedBugs: readonly PlantedBug[] = [
  {
    name: "the store does not compare epochs",
    breaks: /^I9|^I10|^I11|^I4|^bug/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends Base {
            readonly #epochs = new Map<number, number>();
            override async acquire(shard: number, owner: string, leaseMs: DurationMs) {
              const result = await super.acquire(shard, owner, leaseMs);
              if (result.outcome === "acquired") this.#epochs.set(shard, result.epoch);
              return result;
            }
            override claim(shard: number, _epoch: number, ids: IdList, nowMs: EpochMs, bytesMax: number) {
              return super.claim(shard, this.#epochs.get(shard) ?? 0, ids, nowMs, bytesMax);
            }
            override settle(shard: number, _epoch: number, outcomes: readonly Outcome[], nowMs: EpochMs) {
              return super.settle(shard, this.#epochs.get(shard) ?? 0, outcomes, nowMs);
            }
          },
      ),
    },
  },
  {
    name: "two owners: a held shard is given to whoever asks",
    breaks: /^I9|^I4|^I10|^in fair weather/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends Base {
            override async acquire(shard: number, owner: string, leaseMs: DurationMs) {
              const { owner: present, epoch } = await super.stats(shard, epochMs(0));
              if (present !== undefined && present !== owner) await super.release(shard, epoch, present);
              return super.acquire(shard, owner, leaseMs);
            }
          },
      ),
      // Only who thinks that it may take a held shard asks for one.
      patch: replaced(ShardKeeper.prototype, "fenced", () => () => {}),
    },
  },
  {
    name: "settled as delivered when claimed, before it is sent",
    breaks: /^I1 delivered|^I10 nothing after success/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends Base {
            override async claim(shard: number, epoch: number, ids: IdList, nowMs: EpochMs, bytesMax: number) {
              const result = await super.claim(shard, epoch, ids, nowMs, bytesMax);
              const outcomes = result.claimed.map(({ id }) => ({ kind: "delivered" as const, id }));
              await super.settle(shard, epoch, outcomes, nowMs);
              return result;
            }
          },
      ),
    },
  },
  {
    name: "the clock is three milliseconds fast",
    breaks: /^I2 none is early/,
    plant: {
      patch: replaced(
        CheckedClock.prototype,
        "nowMs",
        (nowMs) =>
          function (this: CheckedClock) {
            return epochMs(nowMs.call(this) + 3);
          },
      ),
    },
  },
  {
    name: "nobody compares the clock with the store's",
    breaks: /^I2/,
    plant: {
      patch: () => {
        const before = Object.getOwnPropertyDescriptor(CheckedClock.prototype, "problem")!;
        Object.defineProperty(CheckedClock.prototype, "problem", { ...before, get: () => undefined });
        const undo = replaced(CheckedClock.prototype, "observe", () => () => {})();
        return () => {
          undo();
          Object.defineProperty(CheckedClock.prototype, "problem", before);
        };
      },
    },
  },
  {
    name: "sends without looking at the lease",
    breaks: /^I9 one effective owner/,
    plant: { patch: replaced(ShardKeeper.prototype, "validUntilMs", () => () => Number.POSITIVE_INFINITY) },
  },
  {
    name: "a message that was moved to later is forgotten, and nobody sweeps",
    breaks: /^I13|^I3/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends withoutSweep(Base) {
            override async claim(shard: number, epoch: number, ids: IdList, nowMs: EpochMs, bytesMax: number) {
              const result: ClaimResult = await super.claim(shard, epoch, ids, nowMs, bytesMax);
              return { ...result, later: [] };
            }
          },
      ),
    },
  },
  {
    name: "wakes are lost, and nobody sweeps",
    breaks: /^I13|^I3/,
    plant: { makeStore: store((Base) => withoutSweep(Base)) },
  },
  {
    name: "what is tried again soon is not put back into the near window, and nobody sweeps",
    breaks: /^I13|^I3/,
    plant: {
      makeStore: store((Base) => withoutSweep(Base)),
      patch: replaced(
        NearSet.prototype,
        "requeue",
        () =>
          function (this: NearSet, handle) {
            this.drop(handle);
          },
      ),
    },
  },
  {
    name: "given back is not recorded",
    breaks: /^I1 none is left claimed|^I13|^I11/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends Base {
            override settle(shard: number, epoch: number, outcomes: readonly Outcome[], nowMs: EpochMs) {
              return super.settle(
                shard,
                epoch,
                outcomes.filter(({ kind }) => kind !== "give_back"),
                nowMs,
              );
            }
          },
      ),
    },
  },
  {
    name: "a new owner does not recover what the former one had out",
    breaks: /^I1 none is left claimed|^I13/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends Base {
            override async recover() {
              return 0;
            }
          },
      ),
    },
  },
  {
    name: "a claim whose answer was lost is not answered again",
    breaks: /^I1 none is left claimed|^I13/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends Base {
            override async claim(shard: number, epoch: number, ids: IdList, nowMs: EpochMs, bytesMax: number) {
              const stored = await super.get(shard, ids.toArray());
              const waiting = ids.toArray().filter((_, i) => stored[i]?.state === "scheduled");
              return super.claim(shard, epoch, IdList.of(waiting), nowMs, bytesMax);
            }
          },
      ),
    },
  },
  {
    name: "cancel says done for what is being sent",
    breaks: /^I5|^I11/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends Base {
            override async cancel(shard: number, ids: readonly MessageId[], nowMs: EpochMs) {
              const found = await super.cancel(shard, ids, nowMs);
              return found.map((one) => (one.state === "claimed" ? { ...one, outcome: "done" as const } : one));
            }
          },
      ),
    },
  },
  {
    name: "keep replaces",
    breaks: /^P5/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends Base {
            override schedule(shard: number, items: readonly ScheduleItem[]) {
              return super.schedule(
                shard,
                items.map((item) => (item.onConflict === "keep" ? { ...item, onConflict: "replace" } : item)),
              );
            }
          },
      ),
    },
  },
  {
    name: "a group's head does not hold up the others",
    breaks: /^I7/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends Base {
            override schedule(shard: number, items: readonly ScheduleItem[]) {
              return super.schedule(
                shard,
                items.map(({ message: { messageGroup: _, ...message }, ...how }) => ({ message, ...how })),
              );
            }
          },
      ),
    },
  },
  {
    name: "a retry comes at once",
    breaks: /^I10 backoff/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends Base {
            override settle(shard: number, epoch: number, outcomes: readonly Outcome[], nowMs: EpochMs) {
              return super.settle(
                shard,
                epoch,
                outcomes.map((outcome) => (outcome.kind === "retry" ? { ...outcome, dueMs: nowMs } : outcome)),
                nowMs,
              );
            }
          },
      ),
    },
  },
  {
    name: "a retry's attempt is not counted",
    breaks: /^P7/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends Base {
            override settle(shard: number, epoch: number, outcomes: readonly Outcome[], nowMs: EpochMs) {
              return super.settle(
                shard,
                epoch,
                outcomes.map(
                  ({ id, ...rest }) => (rest.kind === "retry" ? { kind: "give_back", id } : { id, ...rest }) as Outcome,
                ),
                nowMs,
              );
            }
          },
      ),
    },
  },
  {
    name: "nobody ends what has expired",
    breaks: /^I13|^not sent after its expiry/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends Base {
            override schedule(shard: number, items: readonly ScheduleItem[]) {
              return super.schedule(
                shard,
                items.map(({ message: { expireAtMs: _, ...message }, ...how }) => ({ message, ...how })),
              );
            }
          },
      ),
      // The sender is not told either.
    },
  },
  {
    name: "a shard is handed over with its messages out",
    breaks: /^I4|^in fair weather|^I10/,
    plant: { patch: replaced(Dispatcher.prototype, "drain", () => async () => {}) },
  },
  {
    name: "accepted before it is stored",
    breaks: /^P1|^I1/,
    plant: {
      patch: replaced(
        StoreIntake.prototype,
        "accept",
        (accept) =>
          async function (this: StoreIntake, admitted) {
            accept.call(this, admitted).catch(() => {});
            const { deliverAtMs } = admitted.message;
            return { outcome: "scheduled", state: "scheduled", deliverAtMs, attempt: 0 };
          },
      ),
    },
  },
  {
    name: "an unknown send counts as delivered",
    breaks: /^I1 delivered/,
    plant: {
      patch: results((result) =>
        !result.ok && result.failure.class === "unknown" ? { ok: true, brokerMessageId: "?" } : result,
      ),
    },
  },
  {
    name: "a passing failure counts as final",
    breaks: /^I1 dead for a reason/,
    plant: {
      patch: results((result) =>
        result.ok ? result : { ok: false, failure: { ...result.failure, class: "permanent" } },
      ),
    },
  },
  {
    name: "renewed leases are not believed",
    breaks: /^I9 a lease runs out|^in fair weather/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends Base {
            override async renew(leases: readonly { shard: number; epoch: number }[]) {
              return leases.map(() => true);
            }
          },
      ),
    },
  },
];

/** What is overdue for a second and still waits is not found any more. */
const withoutSweep = (Base: Memory): Memory =>
  class extends Base {
    readonly #clockMs: () => number;
    constructor(options: ConstructorParameters<Memory>[0]) {
      super(options);
      this.#clockMs = options.clockMs;
    }
    override async near(shard: number, fromMs: EpochMs, untilMs: EpochMs, cursor: string | undefined, limit: number) {
      const page: NearPage = await super.near(shard, fromMs, untilMs, cursor, limit);
      if (untilMs > this.#clockMs()) return page;
      return { ids: IdList.of([]), lanes: new Uint32Array(), dueMs: new Float64Array(), cursor: undefined };
    }
  };
