import type { MessageId } from "../../src/message/id.ts";
import { epochMs } from "../../src/message/time.ts";
import { check, type Violation } from "./checks.ts";
import { Clients } from "./clients.ts";
import { Cluster } from "./cluster.ts";
import { Ledger } from "./ledger.ts";
import { optionsOf, type SimOptions } from "./options.ts";
import { Broker } from "./sim-sink.ts";
import { IngestTopic } from "./sim-source.ts";
import { type StoreMaker, StoreServer } from "./store-server.ts";
import { Storm } from "./storm.ts";
import type { Trace } from "./trace.ts";
import { epochStartMs, World } from "./world.ts";

/**
 * One seed, one day: processes start, clients ask, a storm passes, everything heals, what is due goes out, processes
 * stop. Then the ledger is checked against the promises.
 */
export type SimRun = {
  readonly options: SimOptions;
  readonly violations: readonly Violation[];
  readonly trace: Trace;
  readonly ledger: Ledger;
  readonly events: number;
  readonly simulatedMs: number;
};

/** Changes of the world: for planted bugs, and for another store. */
export type Plant = {
  readonly makeStore?: StoreMaker;
  /** A process is about to start. */
  readonly beforeStart?: () => void;
  /** Another world than the seed's own. */
  readonly options?: (options: SimOptions) => SimOptions;
  /** Changes whatever it likes, and gives back how to undo it. */
  readonly patch?: () => () => void;
};

const settleInMs = 1_000;
/** Pauses of lanes, backoff of loops and retries that may still be waiting when all is well again. */
const slackMs = 9_000;

export const simulate = async (seed: number, plant: Plant = {}): Promise<SimRun> => {
  const options = plant.options?.(optionsOf(seed)) ?? optionsOf(seed);
  const undo = plant.patch?.();
  const rejections: unknown[] = [];
  const others = process.listeners("unhandledRejection");
  const onRejection = (error: unknown): void => void rejections.push(error);
  process.removeAllListeners("unhandledRejection");
  process.on("unhandledRejection", onRejection);
  try {
    return await simulateWith(options, plant, rejections);
  } finally {
    process.off("unhandledRejection", onRejection);
    for (const other of others) process.on("unhandledRejection", other);
    undo?.();
  }
};

const simulateWith = async (options: SimOptions, plant: Plant, rejections: readonly unknown[]): Promise<SimRun> => {
  const world = new World(options.seed);
  const ledger = new Ledger();
  const server = new StoreServer(world, ledger, options.shards, plant.makeStore);
  const broker = new Broker(world, ledger);
  const ingest = new IngestTopic(broker);
  const cluster = new Cluster({ world, ledger, options, server, broker, ingest, beforeStart: plant.beforeStart });
  const clients = new Clients({ world, ledger, options, cluster, ingest });
  const storm = new Storm({ world, ledger, options, cluster, server, broker, ingest, clients });

  for (const machine of cluster.machines) {
    world.after(world.random.between(0, 200), undefined, () => cluster.start(machine));
  }
  clients.start(settleInMs);
  storm.start(settleInMs);
  watchClocks(world, ledger, cluster, options);
  await world.run(settleInMs + options.stormMs);
  storm.heal();
  const healedMs = world.nowMs;

  // --- after the storm: everything due must go out ---
  const isQuiet = (untilMs: number): boolean =>
    clients.open === 0 &&
    (options.receivers === 0 || ingest.unacknowledged === 0) &&
    [...ledger.messages.values()].every(
      ({ state, content, contents }) =>
        state !== "claimed" &&
        (state !== "scheduled" || (contents.length > 0 && content.deliverAtMs - epochStartMs > untilMs)),
    );
  const quietBy = async (limitMs: number): Promise<number | undefined> => {
    let lookedMs = 0;
    let isDone = false;
    await world.run(limitMs, () => {
      if (world.nowMs - lookedMs < 100) return false;
      lookedMs = world.nowMs;
      isDone = isQuiet(limitMs);
      return isDone;
    });
    return isDone ? world.nowMs : undefined;
  };
  // Clients may go on asking after the storm, and what they ask for is due later still.
  const clientsDoneMs = healedMs + 6 * 4_600;
  await world.run(clientsDoneMs, () => clients.open === 0);
  const latestDueMs = await latestDue(ledger, server, world.nowMs + 30_000);
  const limitMs = Math.max(world.nowMs, latestDueMs) + options.leaseMs + 2_000 + slackMs;
  const quietMs = await quietBy(limitMs);
  // Whoever still sends after everything has ended is caught here.
  await world.run(
    Math.max(world.nowMs + options.leaseMs + 1_000, healedMs + options.callTimeoutMs + options.leaseMs + 2_000),
  );
  const gaugesAtRest = cluster.running.map(({ node, gauges }) => ({
    node,
    out: gauges.get("escapement_out")!(),
    ready: gauges.get("escapement_due_waiting")!(),
    near: gauges.get("escapement_near_window_entries")!(),
  }));

  // --- hours later ---
  let farQuiet = true;
  const stopAll = async (): Promise<boolean> => {
    let open = 0;
    for (const machine of cluster.machines) {
      if (machine.process?.node.alive !== true) continue;
      open++;
      void cluster.stop(machine, undefined).then(() => open--);
    }
    await world.run(world.nowMs + 12_000, () => open === 0);
    return open === 0;
  };
  let stopped = await stopAll();
  const far = [...ledger.messages.values()].filter(({ state }) => state === "scheduled");
  if (stopped && quietMs !== undefined && far.length > 0) {
    const lastDueMs = Math.max(...far.map(({ content }) => content.deliverAtMs - epochStartMs));
    world.nowMs = Math.max(world.nowMs, lastDueMs - server.clock.offsetMs - 1_500);
    world.trace.mark("world", "hours later one process starts");
    cluster.start(cluster.machines[0]!);
    farQuiet = (await quietBy(lastDueMs + options.leaseMs + 2_000 + slackMs)) !== undefined;
    stopped = (await stopAll()) && stopped;
  }

  const stored = new Map(
    await Promise.all(
      [...ledger.messages.values()].map(async ({ id, shard }) => {
        const [found] = await server.truth.get(shard, [id as MessageId], epochMs(0));
        return [id, found] as const;
      }),
    ),
  );
  const stats = await Promise.all(
    Array.from({ length: options.shards }, (_, shard) =>
      server.truth.stats(shard, epochMs(epochStartMs + world.nowMs)),
    ),
  );
  await new Promise(setImmediate);
  const violations = check({
    options,
    ledger,
    stored,
    stats,
    healedMs,
    quietMs,
    limitMs,
    farQuiet,
    stopped,
    gaugesAtRest,
    unacknowledged: options.receivers === 0 ? 0 : ingest.unacknowledged,
    openClients: clients.open,
    rejections,
    endMs: world.nowMs,
  });
  return { options, violations, trace: world.trace, ledger, events: world.events, simulatedMs: world.nowMs };
};

/** The latest instant before `beforeMs` at which something in the store wants to go out. */
const latestDue = async (ledger: Ledger, server: StoreServer, beforeMs: number): Promise<number> => {
  let latestMs = 0;
  for (const { id, shard } of ledger.messages.values()) {
    const [found] = await server.truth.get(shard, [id as MessageId], epochMs(0));
    if (found?.state !== "scheduled" && found?.state !== "claimed") continue;
    const dueMs = found.deliverAtMs - epochStartMs;
    if (dueMs < beforeMs) latestMs = Math.max(latestMs, dueMs);
  }
  return latestMs;
};

/** A process that must not send, because its clock is wrong, must not keep shards from those who may. */
const watchClocks = (world: World, ledger: Ledger, cluster: Cluster, options: SimOptions): void => {
  const sinceMs = new Map<string, number>();
  const look = (): void => {
    for (const { node, connection, gauges, isReady } of cluster.running) {
      const isTrusted = connection.refereeMs !== undefined;
      if (isTrusted || !isReady) sinceMs.delete(node.name);
      else if (!sinceMs.has(node.name)) sinceMs.set(node.name, world.nowMs);
      const untrustedMs = world.nowMs - (sinceMs.get(node.name) ?? world.nowMs);
      // What is being sent is finished first, and a broker may take three seconds for it.
      if (untrustedMs < 3_500 + options.leaseMs / 2 || gauges.get("escapement_shards_owned")!() === 0) continue;
      if (ledger.hadTrouble(node, world.nowMs - untrustedMs, world.nowMs, ["pause", "store", "connection"])) continue;
      const text = `${node.name} owns shards ${Math.round(untrustedMs)} ms after its clock was found to be wrong`;
      ledger.seen.push({ rule: "I13 who may not send keeps no shard", text, ids: [] });
      sinceMs.delete(node.name);
    }
    if (world.nowMs < settleInMs + options.stormMs) world.after(250, undefined, look);
  };
  world.after(250, undefined, look);
};
