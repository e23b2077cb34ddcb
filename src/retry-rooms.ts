import { AuditKeeping } from "./dead/audit-keeping.ts";
import { DeadRoom } from "./dead/dead-room.ts";
import { keepByPolicies } from "./dead/keep-by-policies.ts";
import { DeadKeeping } from "./dead/keeping.ts";
import { RedriveKeeping } from "./dead/redrive-keeping.ts";
import { RedriveLoop } from "./dead/redrive-loop.ts";
import { RedriveReports } from "./dead/redrive-reports.ts";
import type { RedriveWitness } from "./dead/redrive-witness.port.ts";
import type { DelayStore } from "./delay/delay-store.port.ts";
import { BayBook } from "./dependencies/bay-book.ts";
import { DependencyBoard } from "./dependencies/board.ts";
import { DependencyDesk } from "./dependencies/desk.ts";
import { LaneHeads } from "./dependencies/lane-heads.ts";
import { ParkedCount } from "./dependencies/parked-count.ts";
import type { Parking } from "./dependencies/parking.port.ts";
import { Releaser } from "./dependencies/releaser.ts";
import type { DocumentStore } from "./documents/document-store.port.ts";
import { PolicyBook } from "./policies/policy-book.ts";
import type { CheckedClock } from "./runtime/clock.ts";
import type { Log } from "./runtime/log.ts";
import type { Loop } from "./runtime/loop.ts";
import type { Metrics } from "./runtime/metrics.ts";
import type { Random } from "./runtime/random.ts";

/**
 * The server's side of the retry engine, joined: policies, dependencies and the dead, with the loops that work for
 * them. `service.ts` gives it the store and the near window; what these rooms need of each other is joined here.
 */
export type RetryRoomsParts = {
  readonly store: DelayStore;
  readonly documents: DocumentStore;
  readonly clock: CheckedClock;
  readonly random: Random;
  readonly log: Log;
  readonly node: string;
  readonly ownTopics: ReadonlySet<string>;
  readonly metrics: Pick<Metrics, "removed" | "gauge">;
  /** The near window of this process. */
  readonly window: {
    owns(shard: number): boolean;
    offer(id: Buffer, offset: number, lane: number, shard: number, dueMs: number): boolean;
  };
  readonly owned: () => readonly number[];
  readonly members: () => readonly string[];
  readonly loop: (name: string, runOnce: (signal: AbortSignal) => Promise<number>, errorBackoffMaxMs?: number) => Loop;
};

/** Others wait to hear of an outage, what is parked to come out, and a change of policy must hold within two seconds. */
const soonMs = 1_000;

export class RetryRooms {
  readonly policies: PolicyBook;
  readonly dependencies: DependencyDesk;
  readonly dead: DeadRoom;
  readonly parking: Parking;
  readonly parked: ParkedCount;
  readonly redriveWitness: RedriveWitness;
  readonly #redrives: RedriveLoop;
  readonly #loops: readonly Loop[];

  constructor(parts: RetryRoomsParts) {
    const { store, documents, clock, random, log, node, ownTopics, metrics, window, owned, members, loop } = parts;
    this.policies = new PolicyBook({ documents, clock, log });

    const bays = new BayBook(documents);
    const board = new DependencyBoard({ documents, clock, log, node, members });
    const releaser = new Releaser({
      store,
      clock,
      board,
      bays,
      owned,
      offer: (id, offset, lane, shard, dueMs) => window.offer(id, offset, lane, shard, dueMs),
      log,
    });
    this.parking = bays;
    this.parked = new ParkedCount(store, bays);

    const reports = new RedriveReports(documents, node, log);
    this.redriveWitness = reports;
    this.#redrives = new RedriveLoop({ store, documents, clock, log, node, ownTopics, window });
    const redrives = loop("redrives", () => this.#redrives.runOnce());
    const keeping = new DeadKeeping({
      store,
      documents,
      clock,
      random,
      log,
      owned,
      keepMsOf: keepByPolicies(this.policies, this.policies),
      removed: (count) => metrics.removed("policy", count),
    });
    const auditKeeping = new AuditKeeping({ documents, clock, log, owned });
    const redriveKeeping = new RedriveKeeping({ documents, clock, log, owned });
    this.dead = new DeadRoom({
      store,
      documents,
      clock,
      random,
      ownTopics,
      discarded: (count) => metrics.removed("operator", count),
      wake: () => {
        this.#redrives.wake();
        redrives.wake();
      },
    });

    const { policies, parked } = this;
    const laneHeads = new LaneHeads({ documents, clock });
    this.dependencies = new DependencyDesk({ board, parked, policies, clock, redriveNews: reports, laneHeads });
    this.#loops = [
      loop("retry policies", () => policies.runOnce(), soonMs),
      loop("dependency board", () => board.runOnce(), soonMs),
      loop("releaser", (signal) => releaser.runOnce(signal), soonMs),
      redrives,
      loop("redrive reports", () => reports.runOnce()),
      loop("keeping of the dead", () => keeping.runOnce()),
      loop("keeping of redrives", () => redriveKeeping.runOnce()),
      loop("keeping of the audit", () => auditKeeping.runOnce()),
      loop("forgetting of lane heads", () => laneHeads.runOnce()),
    ];
    metrics.gauge(
      "escapement_dependencies_not_closed",
      "Dependencies that are open, probing or ramping.",
      () => board.notClosed,
    );
  }

  /** Resolves when the policies are known. */
  async load(): Promise<void> {
    await this.policies.runOnce();
  }

  start(): void {
    for (const loop of this.#loops) loop.start();
  }

  /** Redrives under way stop where they are; what was last known of policies holds on. */
  async stop(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
    await this.#redrives.stop();
  }
}
