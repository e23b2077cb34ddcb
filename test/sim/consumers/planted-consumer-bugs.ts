import { HandOvers } from "../../../src/consumer/hand-overs.ts";
import { InHand } from "../../../src/consumer/held.ts";
import { Lanes } from "../../../src/consumer/order.ts";
import { Remembered } from "../../../src/consumer/remembered.ts";
import { Selection } from "../../../src/dead/selection.ts";
import type { ReviveItem } from "../../../src/delay/delay-store.port.ts";
import { DependencyBoard } from "../../../src/dependencies/board.ts";
import { bayOf } from "../../../src/message/bay.ts";
import { IdList } from "../../../src/message/id-list.ts";
import type { EpochMs } from "../../../src/message/time.ts";
import { RetryBudget } from "../../../src/retry/budget.ts";
import { DependencyGuard } from "../../../src/retry/dependency-guard.ts";
import type { RetryEnvelope } from "../../../src/retry/envelope.ts";
import { decodeEnvelope, encodeEnvelope } from "../../../src/retry/envelope-codec.ts";
import { parsePolicy } from "../../../src/retry/parse-policy.ts";
import { replaced, store } from "../planted-bugs.ts";
import type { ConsumerOptions } from "./options.ts";
import type { Tamper } from "./ports.ts";
import type { ConsumerPlant } from "./simulate-consumers.ts";

/** Bugs that somebody could make in the engine, the breaker, parking and redrives; each must be seen. */
export type PlantedConsumerBug = {
  readonly name: string;
  /** One of the broken promises starts so; any other would be luck. */
  readonly breaks: RegExp;
  readonly plant: ConsumerPlant;
};

/** One busy process, and a dependency that is gone for long. */
const busy =
  (terms: object) =>
  (options: ConsumerOptions): ConsumerOptions => {
    const backoff = { kind: "fixed", delay: "400ms", jitter: "none" };
    const breaker = { failureRate: 0.5, minCalls: 3, window: "1s", probeEvery: "2s", probes: 1, rampStartPerSec: 5 };
    const policyInput = { ...options.policyInput, backoff, breaker, ...terms };
    return {
      ...options,
      policyInput,
      policy: parsePolicy(policyInput),
      bound: false,
      odd: false,
      order: undefined,
      workers: 1,
      concurrency: 20,
      dependencies: 1,
      messages: 60,
      stormMs: 15_000,
      troubles: { ...options.troubles, outages: 3, crashes: 0, redrives: 0 },
    };
  };

const enveloped =
  (change: (envelope: RetryEnvelope, isParked: boolean) => RetryEnvelope): Tamper =>
  (message) => {
    const properties = new Map(message.properties);
    const decoded = decodeEnvelope(properties.get("ESC_RETRY")!);
    if (!decoded.ok) return message;
    properties.set("ESC_RETRY", encodeEnvelope(change(decoded.envelope, properties.has("ESC_PARK")))!);
    return { ...message, properties };
  };

export const plantedConsumerBugs: readonly PlantedConsumerBug[] = [
  // --- the engine ---
  {
    name: "acknowledged although it could not be handed over",
    breaks: /^C1/,
    plant: {
      patch: replaced(
        HandOvers.prototype,
        "add",
        (add) =>
          async function (this: HandOvers, message) {
            await add.call(this, message);
            return true;
          },
      ),
    },
  },
  {
    name: "what worked is forgotten while its acknowledgement is in doubt",
    breaks: /^C2/,
    plant: { patch: replaced(Remembered.prototype, "isFinished", () => () => false) },
  },
  {
    name: "what was given back is not remembered",
    breaks: /^C[346]/,
    plant: { patch: replaced(Remembered.prototype, "gaveBack", () => () => {}) },
  },
  {
    name: "a message that comes again is never taken for a crash",
    breaks: /^C4 a crash loop ends|^C1/,
    plant: { received: (message) => ({ ...message, deliveryAttempt: 1 }) },
  },
  {
    name: "nobody renews the invisibility of what runs",
    breaks: /^C2/,
    plant: { patch: replaced(InHand.prototype, "start", () => () => {}) },
  },
  {
    name: "everything is its lane's turn",
    breaks: /^C7/,
    plant: { patch: replaced(Lanes.prototype, "enter", () => () => true) },
  },
  {
    name: "a blocked lane goes on",
    breaks: /^C7/,
    plant: {
      patch: () => {
        const before = Object.getOwnPropertyDescriptor(Lanes.prototype, "blocks")!;
        Object.defineProperty(Lanes.prototype, "blocks", { ...before, get: () => false });
        return () => void Object.defineProperty(Lanes.prototype, "blocks", before);
      },
    },
  },
  {
    name: "a hand-over forgets the attempt",
    breaks: /^C3 attempts/,
    plant: {
      tamper: enveloped((envelope) => ({ ...envelope, attempt: Math.max(0, envelope.attempt - 1) })),
    },
  },
  {
    name: "retries come at once",
    breaks: /^C6/,
    plant: {
      tamper: (message) =>
        message.properties.has("ESC_DELIVER_AT")
          ? { ...message, properties: new Map(message.properties).set("ESC_DELIVER_AT", "1750000000000") }
          : message,
    },
  },
  // --- breaker and budget ---
  {
    name: "calls go whatever the breaker says",
    breaks: /^C8 what is gone/,
    plant: { options: busy({ budget: null }), patch: replaced(DependencyGuard.prototype, "decide", () => () => "go") },
  },
  {
    name: "the retry budget is never used up",
    breaks: /^C8 retries/,
    plant: {
      options: busy({ breaker: null, budget: { percent: 10, minPerSec: 2 } }),
      patch: replaced(RetryBudget.prototype, "has", () => () => true),
    },
  },
  // --- parking ---
  {
    name: "parking costs an attempt",
    breaks: /^C5/,
    plant: {
      tamper: enveloped((envelope, isParked) => (isParked ? { ...envelope, attempt: envelope.attempt + 1 } : envelope)),
    },
  },
  {
    name: "nothing is let out once the dependency is well",
    breaks: /^C1 everything/,
    plant: {
      patch: replaced(
        DependencyBoard.prototype,
        "releaseOf",
        (releaseOf) =>
          function (this: DependencyBoard, key) {
            const release = releaseOf.call(this, key);
            return release !== undefined && "perSec" in release ? { perSec: 0 } : release;
          },
      ),
    },
  },
  {
    name: "what was parked before a restart is not found",
    breaks: /^C1 everything/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends Base {
            override async near(
              shard: number,
              from: EpochMs,
              until: EpochMs,
              cursor: string | undefined,
              limit: number,
            ) {
              const page = await super.near(shard, from, until, cursor, limit);
              if (bayOf(from) === undefined) return page;
              return { ids: IdList.of([]), lanes: new Uint32Array(), dueMs: new Float64Array(), cursor: undefined };
            }
          },
      ),
    },
  },
  // --- the dead ---
  {
    name: "what was given up is not kept",
    breaks: /^C1 none is lost/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends Base {
            override async bury() {}
          },
      ),
    },
  },
  {
    name: "the dead are brought back by whoever asks, as often as he asks",
    breaks: /^C11 a death/,
    plant: {
      makeStore: store(
        (Base) =>
          class extends Base {
            override async revive(shard: number, items: readonly ReviveItem[]) {
              const again = items.map(({ message }) => ({ message, onConflict: "replace" as const }));
              await super.schedule(shard, again);
              return items.map(() => true);
            }
          },
      ),
    },
  },
  {
    name: "a redrive leaves out the last of what it finds",
    breaks: /^C11 everything selected/,
    plant: {
      patch: replaced(
        Selection.prototype,
        "next",
        (next) =>
          async function (this: Selection, count, bytesMax, nowMs) {
            return (await next.call(this, count, bytesMax, nowMs)).slice(0, -1);
          },
      ),
    },
  },
];
