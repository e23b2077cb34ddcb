import { MemoryDocumentStore } from "../../src/adapters/memory/memory-document-store.ts";
import type { DocumentStore } from "../../src/documents/document-store.port.ts";
import { Service, type ServiceMetrics } from "../../src/service.ts";
import type { Ledger } from "./ledger.ts";
import type { SimOptions } from "./options.ts";
import { simLog } from "./sim-log.ts";
import { SimNode, type WallClock } from "./sim-node.ts";
import { type Broker, SimSink } from "./sim-sink.ts";
import type { IngestTopic } from "./sim-source.ts";
import { SimTopicMemory, simDirectory } from "./sim-topics.ts";
import { StoreConnection } from "./store-connection.ts";
import type { StoreServer } from "./store-server.ts";
import type { World } from "./world.ts";

/** The machines and the processes on them: real Services, each joined to the simulated world. */
export type Process = {
  readonly node: SimNode;
  readonly service: Service;
  readonly connection: StoreConnection;
  readonly sink: SimSink;
  readonly gauges: ReadonlyMap<string, () => number>;
  /** Requests of clients that it has not answered. */
  readonly requests: Set<Promise<unknown>>;
  isReady: boolean;
  /** Resolves when it is ready, or has found that it cannot start. */
  started: Promise<void>;
  stopped: Promise<void> | undefined;
};

export type Machine = { readonly name: string; readonly wall: WallClock; lives: number; process: Process | undefined };

export class Cluster {
  readonly machines: Machine[];
  readonly #world: World;
  readonly #ledger: Ledger;
  readonly #options: SimOptions;
  readonly #server: StoreServer;
  readonly #broker: Broker;
  readonly #ingest: IngestTopic;
  readonly #topics = new Set<string>();
  readonly #documentsOf: (node: SimNode) => DocumentStore;
  readonly #beforeStart: (() => void) | undefined;

  constructor(parts: {
    world: World;
    ledger: Ledger;
    options: SimOptions;
    server: StoreServer;
    broker: Broker;
    ingest: IngestTopic;
    beforeStart?: (() => void) | undefined;
    /** Absent: documents that never fail and answer at once. */
    documentsOf?: ((node: SimNode) => DocumentStore) | undefined;
  }) {
    const documents = new MemoryDocumentStore();
    this.#documentsOf = parts.documentsOf ?? (() => documents);
    this.#beforeStart = parts.beforeStart;
    this.#world = parts.world;
    this.#ledger = parts.ledger;
    this.#options = parts.options;
    this.#server = parts.server;
    this.#broker = parts.broker;
    this.#ingest = parts.ingest;
    this.machines = Array.from({ length: parts.options.machines }, (_, i) => ({
      name: "ABC"[i]!,
      wall: { name: "ABC"[i]!, offsetMs: 0 },
      lives: 0,
      process: undefined,
    }));
  }

  get running(): Process[] {
    return this.machines.flatMap(({ process }) => (process?.node.alive ? [process] : []));
  }

  /** Those that a load balancer would send requests to. */
  get answering(): Process[] {
    return this.running.filter(({ isReady, node }) => isReady && node.stoppingMs === Number.POSITIVE_INFINITY);
  }

  start(machine: Machine): void {
    const world = this.#world;
    this.#beforeStart?.();
    const node = new SimNode(world, `${machine.name}${++machine.lives}`, machine.wall);
    const connection = new StoreConnection(
      this.#server,
      node,
      this.#options.callTimeoutMs,
      () => machine.wall.offsetMs,
    );
    const sink = new SimSink(this.#broker, node, connection);
    const gauges = new Map<string, () => number>();
    const service = new Service({
      store: connection,
      documents: this.#documentsOf(node),
      sink,
      directory: simDirectory(this.#broker, node),
      memory: new SimTopicMemory(this.#server, node, this.#topics),
      sources: Array.from({ length: this.#options.receivers }, () => this.#ingest.source(node)),
      machine: node.machine,
      timers: node.timers,
      random: node.random.fork("service"),
      log: simLog(world, this.#ledger, node),
      metrics: metricsInto(gauges),
      node: node.name,
      leaseMs: this.#options.leaseMs,
      ownTopics: new Set(["ESC_INGEST"]),
      nearEntriesMax: this.#options.nearEntriesMax,
    });
    const process: Process = {
      node,
      service,
      connection,
      sink,
      gauges,
      requests: new Set(),
      isReady: false,
      started: Promise.resolve(),
      stopped: undefined,
    };
    machine.process = process;
    world.trace.mark(node.name, "starts");
    process.started = new Promise((resolve) => world.after(0, node, () => resolve(service.start()))).then(
      () => {
        process.isReady = true;
        world.trace.mark(node.name, "is ready");
      },
      (error: unknown) => {
        world.trace.mark(node.name, `cannot start: ${String(error)}`);
        this.#end(process, "exits");
        world.after(300, undefined, () => this.#startIfEmpty(machine));
      },
    );
  }

  /** Everything of the process is gone at once. */
  crash(machine: Machine, restartAfterMs: number): void {
    const { process } = machine;
    if (process?.node.alive !== true) return;
    process.connection.crash();
    process.sink.crash();
    this.#ledger.troubles.push({
      kind: "crash",
      fromMs: this.#world.nowMs,
      toMs: this.#world.nowMs,
      whose: process.node.name,
    });
    this.#end(process, "crashes");
    this.#world.after(restartAfterMs, undefined, () => this.#startIfEmpty(machine));
  }

  pause(machine: Machine, forMs: number): void {
    const { process } = machine;
    if (process?.node.alive !== true) return;
    const { nowMs } = this.#world;
    process.node.timersAfterFreezeMs = process.node.random.pick([0, 0.5, 20]);
    process.node.frozenUntilMs = Math.max(process.node.frozenUntilMs, nowMs + forMs);
    this.#world.trace.mark(process.node.name, `stands still for ${Math.round(forMs)} ms`);
    this.#ledger.troubles.push({ kind: "pause", fromMs: nowMs, toMs: nowMs + forMs, whose: process.node.name });
  }

  /** As SIGTERM does it. Resolves when the process has left. */
  stop(machine: Machine, restartAfterMs: number | undefined): Promise<void> {
    const { process } = machine;
    if (process?.node.alive !== true) return Promise.resolve();
    if (process.stopped !== undefined) return process.stopped;
    // A process that is told to stop while it starts finishes that first.
    if (!process.isReady) {
      process.stopped = process.started.then(() => {
        process.stopped = undefined;
        return this.stop(machine, restartAfterMs);
      });
      return process.stopped;
    }
    const { node, service } = process;
    const stopped = new Promise<void>((resolve) => {
      this.#world.after(0, node, () => {
        node.stoppingMs = this.#world.nowMs;
        this.#world.trace.mark(node.name, "is told to stop");
        service.stop(Promise.allSettled([...process.requests])).then(
          () => {
            this.#end(process, "has stopped");
            resolve();
            if (restartAfterMs !== undefined) {
              this.#world.after(restartAfterMs, undefined, () => this.#startIfEmpty(machine));
            }
          },
          (error: unknown) => {
            this.#ledger.seen.push({ rule: "stop", text: `${node.name} could not stop: ${String(error)}`, ids: [] });
          },
        );
      });
    });
    process.stopped = stopped;
    return stopped;
  }

  #startIfEmpty(machine: Machine): void {
    if (machine.process?.node.alive !== true) this.start(machine);
  }

  #end(process: Process, how: string): void {
    process.node.alive = false;
    process.node.diedMs = this.#world.nowMs;
    this.#world.trace.mark(process.node.name, how);
  }
}

const metricsInto = (gauges: Map<string, () => number>): ServiceMetrics => ({
  accepted: () => {},
  refused: () => {},
  removed: () => {},
  sending: () => {},
  ended: () => {},
  failed: () => {},
  rotate: () => {},
  recentLateness: () => ({ count: 0, p50Ms: 0, p99Ms: 0, maxMs: 0 }),
  gauge: (name, _help, read) => void gauges.set(name, read),
  render: async () => ({ contentType: "text/plain", text: "" }),
});
