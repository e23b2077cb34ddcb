import type { Cluster } from "../cluster.ts";
import type { Ledger } from "../ledger.ts";
import type { Prng } from "../prng.ts";
import type { World } from "../world.ts";
import type { Dependencies } from "./dependencies.ts";
import type { Fleet, Worker } from "./fleet.ts";
import type { GroupTopic } from "./group-topic.ts";
import type { ConsumerOptions } from "./options.ts";

/** What goes wrong on the consumers' side, laid out over the storm by the seed; and its end. */
export class Weather {
  readonly #parts: WeatherParts;
  readonly #random: Prng;
  #isOver = false;

  constructor(parts: WeatherParts) {
    this.#parts = parts;
    this.#random = parts.world.random.fork("weather");
  }

  start(fromMs: number): void {
    const { world, options, fleet, dependencies, topics, cluster, ledger } = this.#parts;
    const { troubles, stormMs, invisibleMs } = options;
    const random = this.#random;
    const times = (count: number, act: (worker: Worker) => void): void => {
      for (let i = 0; i < count; i++) {
        const worker = random.pick(fleet.workers);
        world.at(fromMs + random.between(0, stormMs), undefined, () => {
          if (!this.#isOver) act(worker);
        });
      }
    };
    times(troubles.outages, () => {
      const key = random.pick(dependencies.keys);
      dependencies.fail(key);
      world.after(random.between(300, random.pick([3_000, 9_000])), undefined, () => dependencies.comeBack(key));
    });
    times(troubles.crashes, (worker) => fleet.crash(worker, random.between(20, 3_000)));
    times(troubles.pauses, (worker) => {
      const forMs = random.between(50, random.pick([500, invisibleMs * 1.5]));
      // Nobody stands still beyond the storm: the promises count from its end.
      fleet.pause(worker, Math.min(forMs, fromMs + stormMs - world.nowMs));
    });
    times(troubles.stops, (worker) => void fleet.stop(worker, random.between(20, 2_000)));
    times(troubles.ingestOutages, () => {
      fleet.ways.isIngestClosed = true;
      world.trace.mark("ingest topic", "cannot be reached by consumers");
      const trouble = { kind: "topic" as const, fromMs: world.nowMs, toMs: Number.POSITIVE_INFINITY, whose: "ingest" };
      ledger.troubles.push(trouble);
      world.after(random.between(200, random.pick([2_000, 8_000])), undefined, () => {
        fleet.ways.isIngestClosed = false;
        trouble.toMs = world.nowMs;
        world.trace.mark("ingest topic", "can be reached again");
      });
    });
    if (troubles.lostReplies) {
      fleet.ways.lostHandOver = random.between(0, 0.2);
      for (const topic of [topics.origin, topics.retry]) topic.troubles.lostReply = random.between(0, 0.15);
    }
    if (troubles.duplicates) {
      for (const topic of [topics.origin, topics.retry]) topic.troubles.duplicate = random.between(0, 0.1);
    }
    if (troubles.syncLost) fleet.ways.lostSync = random.between(0, 0.6);
    if (options.bound && random.chance(0.6)) {
      times(1, () => {
        const [process] = cluster.answering;
        if (process === undefined) return;
        world.trace.mark("operator", "changes the policy");
        world.after(0.1, process.node, () => {
          void process.service.retry.policies.put("sim", { policy: options.nextPolicyInput }).catch(() => {});
        });
      });
    }
  }

  /** From here on nothing fails, and every worker runs. */
  heal(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const { fleet, dependencies, topics } = this.#parts;
    Object.assign(fleet.ways, { isIngestClosed: false, lostHandOver: 0, lostSync: 0 });
    for (const topic of [topics.origin, topics.retry]) Object.assign(topic.troubles, { lostReply: 0, duplicate: 0 });
    for (const key of dependencies.keys) dependencies.comeBack(key);
  }
}

export type WeatherParts = {
  readonly world: World;
  readonly ledger: Ledger;
  readonly options: ConsumerOptions;
  readonly cluster: Cluster;
  readonly fleet: Fleet;
  readonly dependencies: Dependencies;
  readonly topics: { readonly origin: GroupTopic; readonly retry: GroupTopic };
};
