import type {
  AcquireResult,
  ChangeResult,
  ClaimResult,
  DeadReason,
  Death,
  DelayStore,
  NearPage,
  Outcome,
  Page,
  Reschedule,
  ReviveItem,
  ScheduleItem,
  ScheduleResult,
  SettleResult,
  ShardStats,
  StoreCheck,
  StoredMessage,
  StoreListener,
} from "../../src/delay/delay-store.port.ts";
import { EscapementError } from "../../src/message/errors.ts";
import type { MessageId } from "../../src/message/id.ts";
import type { IdList } from "../../src/message/id-list.ts";
import type { DelayedMessage } from "../../src/message/message.ts";
import type { DurationMs, EpochMs } from "../../src/message/time.ts";
import type { SimNode } from "./sim-node.ts";
import { StoreJournal } from "./store-journal.ts";
import type { StoreServer } from "./store-server.ts";

/**
 * One node's connection to the store. Requests arrive in the order in which they were sent, answers come back in the
 * order in which they were given, as on one socket; between the two, everything that a network and a server do to a
 * call may happen to it. A call that nobody answered in time fails, though its effect may still come.
 */
export class StoreConnection implements DelayStore {
  readonly shardCount: number;
  readonly #server: StoreServer;
  readonly #node: SimNode;
  readonly #journal: StoreJournal;
  readonly #callTimeoutMs: number;
  readonly #pending = new Set<Call>();
  #listener: StoreListener | undefined;
  #lastArrivalMs = 0;
  #lastReplyMs = 0;
  #isBroken: boolean;
  #isClosed = false;
  /** What the last accepted look at the store's clock allows this node to believe; see {@link refereeMs}. */
  #refereeOffsetMs = Number.NEGATIVE_INFINITY;
  #mayTrust = false;

  constructor(server: StoreServer, node: SimNode, callTimeoutMs: number, wallOffsetMs: () => number) {
    this.#server = server;
    this.#node = node;
    this.#callTimeoutMs = callTimeoutMs;
    this.#wallOffsetMs = wallOffsetMs;
    this.shardCount = server.truth.shardCount;
    this.#journal = new StoreJournal(server, node);
    this.#isBroken = server.isDown;
    server.connections.add(this);
  }

  readonly #wallOffsetMs: () => number;

  get node(): SimNode {
    return this.#node;
  }

  /**
   * The latest checked time that this node may act on now: true time plus the smaller of both clocks' errors when
   * they were last compared. Undefined when the comparison failed, so that nothing may be sent at all.
   */
  get refereeMs(): number | undefined {
    return this.#mayTrust ? this.#server.world.nowMs + this.#refereeOffsetMs : undefined;
  }

  // --- troubles -------------------------------------------------------------------------------------------------

  /** The socket breaks: what is under way fails, and what has not arrived may arrive or not. */
  break(): void {
    this.#isBroken = true;
    for (const call of this.#pending) {
      if (this.#server.isDown || this.#server.random.chance(0.5)) call.isRetracted = true;
      this.#server.world.after(this.#server.random.between(0, 3), this.#node, () =>
        call.fail("store_unavailable", "connection lost"),
      );
    }
  }

  reconnectSoon(): void {
    const { world, random } = this.#server;
    world.after(random.between(20, 300), undefined, () => {
      if (this.#server.isDown || !this.#isBroken || !this.#node.alive) return;
      this.#isBroken = false;
      world.trace.note(this.#node.name, "is connected to the store again");
      world.after(random.between(0, 2), this.#node, () => this.#listener?.onGap());
    });
  }

  /** The node is gone: what it has sent already arrives, or does not. */
  crash(): void {
    for (const call of this.#pending) call.isRetracted = this.#server.random.chance(0.5);
    this.#server.connections.delete(this);
  }

  hear(tell: (listener: StoreListener) => void): void {
    const { world, random, troubles } = this.#server;
    if (this.#isBroken || random.chance(troubles.wakeLost)) return;
    world.after(random.between(0.1, 0.6), this.#node, () => {
      if (this.#listener !== undefined && !this.#isBroken) tell(this.#listener);
    });
  }

  #call<T>(what: string, ids: readonly string[] | undefined, effect: () => Promise<T>): Promise<T> {
    const server = this.#server;
    const { world, random, troubles } = server;
    const node = this.#node;
    const say = (text: string): void => {
      if (ids === undefined) world.trace.note(node.name, text);
      else world.trace.say(node.name, text, ids);
    };
    return new Promise((resolve, reject) => {
      const call: Call = {
        isRetracted: false,
        isOver: false,
        fail: (code, detail) => {
          if (call.isOver) return;
          call.isOver = true;
          this.#pending.delete(call);
          say(`${what}: ${code}, ${detail}`);
          reject(new EscapementError(code, `${what}: ${detail}`));
        },
      };
      if (this.#isClosed) {
        server.ledger.seen.push({ rule: "store used after close", text: `${node.name} calls ${what}`, ids: ids ?? [] });
      }
      if (this.#isBroken) {
        world.after(random.between(0, 5), node, () => call.fail("store_unavailable", "not connected"));
        return;
      }
      this.#pending.add(call);
      world.after(this.#callTimeoutMs, node, () => call.fail("store_unavailable", "no answer in time"));
      const fate = random.float();
      if (fate < troubles.lostRequest) return;
      const isReplyLost = fate < troubles.lostRequest + troubles.lostReply;
      const isRefused = !isReplyLost && fate < troubles.lostRequest + troubles.lostReply + troubles.refused;
      const delayMs = random.chance(troubles.slow) ? random.between(5, troubles.slowMs) : random.between(0.05, 0.4);
      this.#lastArrivalMs = Math.max(this.#lastArrivalMs + 0.001, world.nowMs + delayMs);
      const arrive = (): void => {
        if (call.isRetracted || server.isDown) return;
        const answer = (tell: () => void): void => {
          if (isReplyLost) {
            say(`${what}: done, the answer is lost`);
            return;
          }
          this.#lastReplyMs = Math.max(this.#lastReplyMs + 0.001, world.nowMs + random.between(0.05, 0.4));
          world.at(this.#lastReplyMs, node, () => {
            if (call.isOver || this.#isBroken) return;
            call.isOver = true;
            this.#pending.delete(call);
            tell();
          });
        };
        if (isRefused) {
          const code = random.chance(0.5) ? "store_full" : "store_refusing";
          say(`${what}: ${code}`);
          answer(() => reject(new EscapementError(code, `${what}: refused`)));
          return;
        }
        if (call.isOver) say(`${what}: takes effect though its caller gave up`);
        effect().then(
          (result) => {
            node.hadEffect(what);
            answer(() => resolve(result));
          },
          (error: unknown) => {
            say(`${what}: ${error instanceof Error ? error.message : String(error)}`);
            answer(() => reject(error));
          },
        );
      };
      world.at(this.#lastArrivalMs, undefined, () => server.serve(arrive));
    });
  }

  // --- the port -------------------------------------------------------------------------------------------------

  schedule(shard: number, items: readonly ScheduleItem[], nowMs: EpochMs): Promise<ScheduleResult[]> {
    const ids = items.map(({ message }) => message.id);
    return this.#call("schedule", ids, async () => {
      const results = await this.#server.truth.schedule(shard, items, nowMs);
      this.#journal.scheduled(shard, items, results);
      return results;
    });
  }

  bury(shard: number, items: readonly { message: DelayedMessage; reason: DeadReason }[], nowMs: EpochMs) {
    return this.#call(
      "bury",
      items.map(({ message }) => message.id),
      async () => {
        const { truth } = this.#server;
        const ids = items.map(({ message }) => message.id);
        const known = await truth.get(shard, ids, nowMs);
        await truth.bury(shard, items, nowMs);
        // What was handed over before under this id, as something else, is what holds.
        this.#journal.buriedAtOnce(
          shard,
          items.filter((_, i) => known[i] === undefined),
        );
      },
    );
  }

  cancel(shard: number, ids: readonly MessageId[], nowMs: EpochMs): Promise<ChangeResult[]> {
    return this.#call("cancel", ids, async () => {
      const results = await this.#server.truth.cancel(shard, ids, nowMs);
      this.#journal.canceled(shard, ids, results);
      return results;
    });
  }

  reschedule(shard: number, changes: readonly Reschedule[], nowMs: EpochMs): Promise<ChangeResult[]> {
    const ids = changes.map(({ id }) => id);
    return this.#call("reschedule", ids, async () => {
      const results = await this.#server.truth.reschedule(shard, changes, nowMs);
      this.#journal.rescheduled(shard, changes, results);
      return results;
    });
  }

  get(shard: number, ids: readonly MessageId[], nowMs: EpochMs): Promise<(StoredMessage | undefined)[]> {
    return this.#call("get", ids, () => this.#server.truth.get(shard, ids, nowMs));
  }

  dead(shard: number, from: string | EpochMs | undefined, limit: number): Promise<Page<StoredMessage>> {
    return this.#call("dead", undefined, () => this.#server.truth.dead(shard, from, limit));
  }

  revive(shard: number, items: readonly ReviveItem[], nowMs: EpochMs): Promise<boolean[]> {
    return this.#call(
      "revive",
      items.map(({ message }) => message.id),
      async () => {
        const results = await this.#server.truth.revive(shard, items, nowMs);
        this.#journal.revived(shard, items, results);
        return results;
      },
    );
  }

  discard(shard: number, deaths: readonly Death[], nowMs: EpochMs): Promise<boolean[]> {
    return this.#call(
      "discard",
      deaths.map(({ id }) => id),
      () => this.#server.truth.discard(shard, deaths, nowMs),
    );
  }

  stats(shard: number, nowMs: EpochMs): Promise<ShardStats> {
    return this.#call("stats", undefined, () => this.#server.truth.stats(shard, nowMs));
  }

  async acquire(shard: number, owner: string, leaseMs: DurationMs): Promise<AcquireResult> {
    const calledMs = this.#server.world.nowMs;
    const result = await this.#call(`acquire ${shard}`, undefined, async () => {
      const acquired = await this.#server.truth.acquire(shard, owner, leaseMs);
      this.#journal.acquired(shard, acquired, leaseMs);
      return acquired;
    });
    if (result.outcome === "acquired") this.#journal.sureUntil(shard, result.epoch, calledMs + leaseMs);
    return result;
  }

  async renew(leases: readonly { shard: number; epoch: number }[], owner: string, leaseMs: DurationMs) {
    const calledMs = this.#server.world.nowMs;
    const renewed = await this.#call("renew", undefined, async () => {
      const results = await this.#server.truth.renew(leases, owner, leaseMs);
      leases.forEach(({ shard }, i) => {
        if (results[i]) this.#journal.renewed(shard, leaseMs);
      });
      return results;
    });
    leases.forEach(({ shard, epoch }, i) => {
      if (renewed[i]) this.#journal.sureUntil(shard, epoch, calledMs + leaseMs);
      else this.#server.world.trace.mark(this.#node.name, `shard ${shard} epoch ${epoch} could not be renewed`);
    });
    return renewed;
  }

  release(shard: number, epoch: number, owner: string): Promise<void> {
    const calledMs = this.#server.world.nowMs;
    return this.#call(`release ${shard}`, undefined, async () => {
      const { owner: present, epoch: presentEpoch } = await this.#server.truth.stats(shard, 0 as EpochMs);
      await this.#server.truth.release(shard, epoch, owner);
      if (present === owner && presentEpoch === epoch) this.#journal.released(shard, epoch, calledMs);
    });
  }

  recover(shard: number, epoch: number, limit: number, nowMs: EpochMs): Promise<number> {
    return this.#call(`recover ${shard}`, undefined, async () => {
      const count = await this.#server.truth.recover(shard, epoch, limit, nowMs);
      if (count > 0) await this.#journal.recovered(shard, epoch);
      return count;
    });
  }

  near(shard: number, fromMs: EpochMs, untilMs: EpochMs, cursor: string | undefined, limit: number): Promise<NearPage> {
    return this.#call(`near ${shard}`, undefined, () => this.#server.truth.near(shard, fromMs, untilMs, cursor, limit));
  }

  count(shard: number, fromMs: EpochMs, untilMs: EpochMs): Promise<number> {
    return this.#call(`count ${shard}`, undefined, () => this.#server.truth.count(shard, fromMs, untilMs));
  }

  claim(shard: number, epoch: number, ids: IdList, nowMs: EpochMs, bytesMax: number): Promise<ClaimResult> {
    const asked = ids.toArray();
    const work = this.#call(`claim (epoch ${epoch})`, asked, async () => {
      const result = await this.#server.truth.claim(shard, epoch, ids, nowMs, bytesMax);
      await this.#journal.claimed(shard, epoch, asked, result);
      return result;
    });
    // What the node was told, by the true instant of hearing it.
    void work.then(
      (result) => this.#journal.handedOut(shard, epoch, result),
      () => {},
    );
    return work;
  }

  settle(shard: number, epoch: number, outcomes: readonly Outcome[], nowMs: EpochMs): Promise<SettleResult> {
    const ids = outcomes.map(({ id }) => id);
    const kinds = [...new Set(outcomes.map(({ kind }) => kind))].join(", ");
    return this.#call(`settle ${kinds} (epoch ${epoch})`, ids, async () => {
      const result = await this.#server.truth.settle(shard, epoch, outcomes, nowMs);
      this.#journal.settled(shard, epoch, outcomes);
      return result;
    });
  }

  heartbeat(member: string, ttlMs: DurationMs): Promise<string[]> {
    return this.#call("heartbeat", undefined, () => this.#server.truth.heartbeat(member, ttlMs));
  }

  leave(member: string): Promise<void> {
    return this.#call("leave", undefined, () => this.#server.truth.leave(member));
  }

  async listen(listener: StoreListener): Promise<void> {
    await this.#call("listen", undefined, async () => {});
    this.#listener = listener;
  }

  async check(): Promise<StoreCheck> {
    const startedMs = this.#server.world.nowMs;
    let readOffsetMs = 0;
    const check = await this.#call("check", undefined, async () => {
      readOffsetMs = this.#server.clock.offsetMs;
      return { ...(await this.#server.truth.check()), incarnation: `${this.#server.starts}` };
    });
    const roundTripMs = this.#server.world.nowMs - startedMs;
    const wallMs = this.#wallOffsetMs();
    this.#mayTrust = Math.abs(wallMs - readOffsetMs) <= 500 + roundTripMs + 2;
    if (this.#mayTrust) {
      // What the node went by before may stand if this reading, as old as it may be, does not speak against it.
      const beforeMs = this.#refereeOffsetMs === Number.NEGATIVE_INFINITY ? wallMs : this.#refereeOffsetMs;
      const stands = beforeMs <= readOffsetMs + roundTripMs + 1;
      this.#refereeOffsetMs = Math.min(wallMs, stands ? Math.max(beforeMs, readOffsetMs) : readOffsetMs);
    }
    return { ...check, roundTripMs, problems: [], warnings: [] };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#server.connections.delete(this);
  }
}

type Call = {
  isRetracted: boolean;
  isOver: boolean;
  fail(code: "store_unavailable", detail: string): void;
};
