import type { Clients } from "./clients.ts";
import type { Cluster, Machine } from "./cluster.ts";
import type { Ledger, Trouble } from "./ledger.ts";
import type { SimOptions } from "./options.ts";
import type { Prng } from "./prng.ts";
import { effects } from "./sim-node.ts";
import { type Broker, noBrokerTroubles } from "./sim-sink.ts";
import type { IngestTopic } from "./sim-source.ts";
import { simTopics } from "./sim-topics.ts";
import { noCallTroubles, type StoreServer } from "./store-server.ts";
import type { World } from "./world.ts";

/** Everything that goes wrong, laid out over the storm by the seed; and the healing, after which nothing does. */
export class Storm {
  readonly #world: World;
  readonly #ledger: Ledger;
  readonly #options: SimOptions;
  readonly #cluster: Cluster;
  readonly #server: StoreServer;
  readonly #broker: Broker;
  readonly #ingest: IngestTopic;
  readonly #clients: Clients;
  readonly #random: Prng;
  #isOver = false;

  constructor(parts: {
    world: World;
    ledger: Ledger;
    options: SimOptions;
    cluster: Cluster;
    server: StoreServer;
    broker: Broker;
    ingest: IngestTopic;
    clients: Clients;
  }) {
    this.#world = parts.world;
    this.#ledger = parts.ledger;
    this.#options = parts.options;
    this.#cluster = parts.cluster;
    this.#server = parts.server;
    this.#broker = parts.broker;
    this.#ingest = parts.ingest;
    this.#clients = parts.clients;
    this.#random = parts.world.random.fork("storm");
  }

  start(fromMs: number): void {
    const { troubles, leaseMs, stormMs, mood } = this.#options;
    const random = this.#random;
    const toMs = fromMs + stormMs;
    const times = (count: number, act: (machine: Machine) => void, lastMs = toMs): void => {
      for (let i = 0; i < count; i++) {
        const machine = random.pick(this.#cluster.machines);
        this.#world.at(random.between(fromMs, lastMs), undefined, () => {
          if (!this.#isOver) act(machine);
        });
      }
    };

    if (troubles.storeCalls) {
      this.#server.troubles = {
        ...this.#server.troubles,
        lostRequest: random.between(0, 0.06),
        lostReply: random.between(0, 0.1),
        refused: random.chance(0.5) ? random.between(0, 0.05) : 0,
        wakeLost: random.chance(0.5) ? random.between(0, 0.5) : 0,
      };
      this.#trouble("store", undefined, fromMs, toMs);
    }
    if (troubles.slow) {
      this.#server.troubles = {
        ...this.#server.troubles,
        slow: random.between(0.01, 0.15),
        slowMs: random.pick([20, 200, 1_500]),
      };
      this.#broker.troubles = {
        ...this.#broker.troubles,
        slow: random.between(0.05, 0.4),
        slowMs: random.pick([30, 400, 3_500]),
      };
      this.#trouble("store", undefined, fromMs, toMs);
    }
    if (troubles.sends) {
      this.#broker.troubles = {
        ...this.#broker.troubles,
        transient: random.between(0, 0.25),
        throttled: random.chance(0.4) ? random.between(0, 0.2) : 0,
        unknown: random.between(0, 0.2),
      };
      this.#ingest.ackLost = random.between(0, 0.4);
    }
    if (troubles.lostAnswers) this.#clients.lostAnswers = random.between(0, 0.25);

    times(troubles.storeStops, () => {
      if (this.#server.isDown) return;
      const forMs = random.between(20, random.pick([400, 3_000, 15_000]));
      this.#server.stop();
      const trouble = this.#trouble("store", undefined, this.#world.nowMs, Number.POSITIVE_INFINITY);
      this.#world.after(forMs, undefined, () => {
        if (this.#server.isDown) this.#server.startAgain();
        trouble.toMs = this.#world.nowMs + 400;
      });
    });
    times(troubles.storeStalls, () => {
      const forMs = random.between(20, random.pick([400, 3_500]));
      this.#server.stall(forMs);
      this.#trouble("store", undefined, this.#world.nowMs, this.#world.nowMs + forMs);
    });
    times(troubles.cutConnections, ({ process }) => {
      if (process?.node.alive !== true) return;
      const { connection, node } = process;
      const forMs = random.between(5, random.pick([100, leaseMs * 1.5]));
      this.#world.trace.mark(node.name, `loses the store for ${Math.round(forMs)} ms`);
      this.#trouble("connection", node.name, this.#world.nowMs, this.#world.nowMs + forMs + 350);
      connection.break();
      this.#world.after(forMs, undefined, () => connection.reconnectSoon());
    });
    times(troubles.brokerStops, () => {
      this.#broker.isDown = true;
      this.#world.trace.mark("broker", "is down");
      const trouble = this.#trouble("broker", undefined, this.#world.nowMs, Number.POSITIVE_INFINITY);
      this.#world.after(random.between(50, random.pick([500, 4_000])), undefined, () => {
        if (this.#broker.isDown) this.#world.trace.mark("broker", "is back");
        this.#broker.isDown = false;
        trouble.toMs = this.#world.nowMs;
      });
    });
    times(troubles.brokerStalls, () => {
      const forMs = random.between(50, random.pick([500, 4_500]));
      this.#broker.stalledUntilMs = this.#world.nowMs + forMs;
      this.#world.trace.mark("broker", `stalls for ${Math.round(forMs)} ms`);
      this.#trouble("broker", undefined, this.#world.nowMs, this.#world.nowMs + forMs);
    });
    times(troubles.topicOutages, () => {
      const topic = random.pick(simTopics);
      this.#broker.closedTopics.add(topic);
      this.#world.trace.mark("broker", `refuses topic ${topic}`);
      const trouble = this.#trouble("topic", undefined, this.#world.nowMs, Number.POSITIVE_INFINITY);
      this.#world.after(random.between(100, 4_000), undefined, () => {
        this.#broker.closedTopics.delete(topic);
        trouble.toMs = this.#world.nowMs;
      });
    });
    times(troubles.crashes, (machine) => this.#cluster.crash(machine, random.between(20, 3_000)));
    times(troubles.crashesAfterEffect, (machine) => {
      const restartAfterMs = random.between(20, 3_000);
      const effect = random.pick(effects);
      machine.process?.node.afterEffects(effect, random.whole(1, 3), () =>
        this.#cluster.crash(machine, restartAfterMs),
      );
    });
    const pauseMs = (): number => random.pick([random.between(5, 300), leaseMs * random.between(0.7, 1.6)]);
    // Nobody stands still beyond the storm: the promises count from its end.
    const pause = (machine: Machine, forMs: number): void =>
      this.#cluster.pause(machine, Math.min(forMs, toMs - this.#world.nowMs));
    times(troubles.pauses, (machine) => pause(machine, pauseMs()));
    // So early that a lease can run out before the storm ends.
    const earlyMs = Math.max(fromMs, toMs - 1.5 * leaseMs);
    times(
      troubles.pausesAfterEffect,
      (machine) => {
        const forMs = leaseMs * random.between(0.9, 1.7);
        // Between claim and send is where the lease is all that stands between two owners.
        const effect = random.pick(["claim", random.pick(effects)] as const);
        machine.process?.node.afterEffects(effect, random.whole(1, 3), () => pause(machine, forMs));
      },
      earlyMs,
    );
    times(troubles.stops, (machine) => {
      // With nobody left to take over, a rolling restart would be an outage.
      const others = this.#cluster.answering.filter(({ node }) => node !== machine.process?.node);
      if (mood === "rolling" && others.length === 0 && this.#cluster.machines.length > 1) return;
      void this.#cluster.stop(machine, random.between(50, random.pick([300, 2_000])));
    });
    times(troubles.machineClocks, ({ wall }) => {
      wall.offsetMs += stepMs(random);
      this.#world.trace.mark(wall.name, `its wall clock jumps, to ${wall.offsetMs} ms off`);
      this.#trouble("node clock", wall.name, this.#world.nowMs, Number.POSITIVE_INFINITY);
    });
    times(troubles.storeClock, () => {
      this.#server.stepClock(stepMs(random));
      this.#trouble("store clock", undefined, this.#world.nowMs, Number.POSITIVE_INFINITY);
    });
    this.#world.at(toMs, undefined, () => this.heal());
  }

  /** From here on nothing fails, and every machine runs. */
  heal(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const { nowMs, trace } = this.#world;
    // A call that was lost before is noticed only by its timeout.
    const { callTimeoutMs } = this.#options;
    const { slowMs } = this.#server.troubles;
    trace.mark("world", "heals: no trouble from here on");
    this.#server.troubles = { ...noCallTroubles };
    this.#broker.troubles = { ...noBrokerTroubles };
    this.#ingest.ackLost = 0;
    this.#clients.lostAnswers = 0;
    if (this.#server.isDown) this.#server.startAgain();
    else for (const connection of this.#server.connections) connection.reconnectSoon();
    this.#server.stopStalling();
    // Set back, the clock of the store would keep the leases of the dead alive; so all go by where it was furthest.
    const offsetMs = this.#server.furthestOffsetMs;
    this.#server.clock.offsetMs = offsetMs;
    this.#broker.isDown = false;
    this.#broker.stalledUntilMs = nowMs;
    this.#broker.closedTopics.clear();
    for (const machine of this.#cluster.machines) {
      machine.wall.offsetMs = offsetMs;
      const { process } = machine;
      if (process === undefined || !process.node.alive) continue;
      process.node.afterEffects("any", 0, () => {});
    }
    for (const trouble of this.#ledger.troubles) {
      const isOver = trouble.toMs < nowMs - 1;
      if (!isOver) trouble.toMs = nowMs + 400 + callTimeoutMs + slowMs;
    }
  }

  #trouble(kind: Trouble["kind"], whose: string | undefined, fromMs: number, toMs: number): Trouble {
    const trouble: Trouble = { kind, whose, fromMs, toMs };
    this.#ledger.troubles.push(trouble);
    return trouble;
  }
}

/** From a millisecond to an hour, either way, each order of magnitude as likely as the next. */
const stepMs = (random: Prng): number => Math.round(10 ** random.between(0, 6.55)) * (random.chance(0.5) ? 1 : -1);
