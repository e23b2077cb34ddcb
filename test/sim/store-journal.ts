import type {
  AcquireResult,
  ChangeResult,
  ClaimResult,
  Outcome,
  Reschedule,
  ReviveItem,
  ScheduleItem,
  ScheduleResult,
} from "../../src/delay/delay-store.port.ts";
import type { MessageId } from "../../src/message/id.ts";
import type { DelayedMessage } from "../../src/message/message.ts";
import type { EpochMs } from "../../src/message/time.ts";
import { decodeEnvelope } from "../../src/retry/envelope-codec.ts";
import type { MessageRecord } from "./ledger.ts";
import type { SimNode } from "./sim-node.ts";
import type { StoreServer } from "./store-server.ts";
import { epochStartMs } from "./world.ts";

/**
 * Writes down every effect in the store at the instant at which it happens: into the ledger for the checks and into
 * the trace for people. One per connection, so that it knows on whose behalf.
 */
export class StoreJournal {
  readonly #server: StoreServer;
  readonly #node: SimNode;
  /** Shard and epoch to the instant until which the node may rely on it. */
  readonly #sureUntilMs = new Map<string, number>();

  constructor(server: StoreServer, node: SimNode) {
    this.#server = server;
    this.#node = node;
  }

  scheduled(shard: number, items: readonly ScheduleItem[], results: readonly ScheduleResult[]): void {
    items.forEach(({ message, wakeUntilMs }, i) => {
      const { outcome, state } = results[i]!;
      const woken = wakeUntilMs !== undefined && message.deliverAtMs <= wakeUntilMs ? ", others are woken" : "";
      this.#say(
        `stores ${textOf(message)} due ${trueDue(message.deliverAtMs)}: ${outcome} (${state})${woken}`,
        message.id,
      );
      if (outcome !== "scheduled" && outcome !== "replaced") return;
      const record = this.#record(shard, message.id);
      record.topic = message.topic;
      record.group = message.messageGroup;
      record.state = "scheduled";
      record.claimedIn = undefined;
      record.contents.push({
        atMs: this.#nowMs,
        content: textOf(message),
        deliverAtMs: message.deliverAtMs,
        expireAtMs: message.expireAtMs,
        how: outcome,
      });
    });
  }

  revived(shard: number, items: readonly ReviveItem[], results: readonly boolean[]): void {
    items.forEach(({ message, diedAtMs }, i) => {
      this.#say(
        `brings ${textOf(message)} back from the dead: ${results[i] ? "done" : "it is not that dead"}`,
        message.id,
      );
      if (!results[i]) return;
      const text = message.properties.get("ESC_RETRY");
      const decoded = text === undefined ? undefined : decodeEnvelope(text);
      const token = decoded?.ok === true ? decoded.envelope.redrive : message.properties.get("ESC_REDRIVE");
      const job = token?.split(".")[0] ?? "";
      this.#server.ledger.revivals.push({ id: message.id, diedAtMs, atMs: this.#nowMs, job });
      const record = this.#record(shard, message.id);
      record.state = "scheduled";
      record.claimedIn = undefined;
      record.contents.push({
        atMs: this.#nowMs,
        content: textOf(message),
        deliverAtMs: message.deliverAtMs,
        expireAtMs: message.expireAtMs,
        how: "replaced",
      });
    });
  }

  buriedAtOnce(shard: number, items: readonly { message: DelayedMessage }[]): void {
    for (const { message } of items) {
      this.#say(`keeps ${textOf(message)} among the dead at once`, message.id);
      const record = this.#record(shard, message.id);
      record.state = "dead";
      record.buriedMs.push(this.#nowMs);
      record.buriedText = textOf(message);
    }
  }

  canceled(shard: number, ids: readonly MessageId[], results: readonly ChangeResult[]): void {
    ids.forEach((id, i) => {
      const { outcome, state } = results[i]!;
      this.#say(`cancels: ${outcome} (${state ?? "unknown"})`, id);
      if (outcome !== "done") return;
      const record = this.#record(shard, id);
      record.canceledMs.push(this.#nowMs);
      record.state = "canceled";
    });
  }

  rescheduled(shard: number, changes: readonly Reschedule[], results: readonly ChangeResult[]): void {
    changes.forEach((change, i) => {
      const { outcome, state } = results[i]!;
      this.#say(`reschedules to ${trueDue(change.deliverAtMs)}: ${outcome} (${state ?? "unknown"})`, change.id);
      if (outcome !== "done") return;
      const record = this.#record(shard, change.id);
      const before = record.content;
      record.contents.push({
        atMs: this.#nowMs,
        content: change.body?.toString() ?? before.content,
        deliverAtMs: change.deliverAtMs,
        expireAtMs: change.expireAtMs === undefined ? before.expireAtMs : (change.expireAtMs ?? undefined),
        how: "rescheduled",
      });
    });
  }

  acquired(shard: number, result: AcquireResult, leaseMs: number): void {
    if (result.outcome !== "acquired") return;
    const { ledger, world } = this.#server;
    const { epoch } = result;
    const former = ledger.acquired.findLast((other) => other.shard === shard);
    const formerUntilMs = this.#server.leaseUntilMs.get(shard) ?? 0;
    this.#server.leaseUntilMs.set(shard, this.#nowMs + leaseMs);
    if (former?.epoch === epoch) return;
    const wasReleased = ledger.released.some((other) => other.shard === shard && other.epoch === former?.epoch);
    const freed = former === undefined ? "never owned" : wasReleased ? "released" : "ran out";
    const out = this.#claimedIn(shard, (claimedEpoch) => claimedEpoch !== epoch);
    world.trace.mark(
      this.#node.name,
      `takes shard ${shard} under epoch ${epoch} (${freed}${out.length === 0 ? "" : `, ${out.length} out under an earlier one`})`,
    );
    if (former !== undefined && epoch <= former.epoch) {
      ledger.seen.push({ rule: "I9", text: `epoch ${epoch} of shard ${shard} after ${former.epoch}`, ids: out });
    }
    ledger.acquired.push({
      atMs: this.#nowMs,
      shard,
      epoch,
      node: this.#node,
      before: former?.node,
      freed,
      formerUntilMs,
      out,
    });
  }

  renewed(shard: number, leaseMs: number): void {
    this.#server.leaseUntilMs.set(shard, this.#nowMs + leaseMs);
  }

  sureUntil(shard: number, epoch: number, untilMs: number): void {
    this.#sureUntilMs.set(`${shard}:${epoch}`, untilMs);
  }

  released(shard: number, epoch: number, calledMs: number): void {
    const out = this.#claimedIn(shard, (claimedEpoch) => claimedEpoch === epoch);
    const validUntilMs = this.#sureUntilMs.get(`${shard}:${epoch}`) ?? 0;
    this.#server.world.trace.mark(this.#node.name, `releases shard ${shard} epoch ${epoch}, ${out.length} out`);
    this.#server.ledger.released.push({
      atMs: this.#nowMs,
      shard,
      epoch,
      node: this.#node,
      calledMs,
      validUntilMs,
      out,
    });
  }

  async recovered(shard: number, epoch: number): Promise<void> {
    for (const record of this.#server.ledger.messages.values()) {
      if (record.shard !== shard || record.state !== "claimed") continue;
      const [stored] = await this.#server.truth.get(shard, [record.id as MessageId], 0 as EpochMs);
      if (stored?.state !== "scheduled") continue;
      record.state = "scheduled";
      record.claimedIn = undefined;
      record.recovered.push({ atMs: this.#nowMs, epoch });
      this.#say(`recovers it under epoch ${epoch}: it waits again, attempt ${stored.attempt} stays counted`, record.id);
    }
  }

  async claimed(shard: number, epoch: number, asked: readonly MessageId[], result: ClaimResult): Promise<void> {
    const taken = new Set<string>();
    for (const message of result.claimed) {
      taken.add(message.id);
      const record = this.#record(shard, message.id);
      const again = record.state === "claimed" && record.claimedIn?.epoch === epoch;
      const { attempt } = message;
      record.claims.push({ atMs: this.#nowMs, node: this.#node, epoch, attempt, content: textOf(message), again });
      record.state = "claimed";
      record.claimedIn = { node: this.#node, epoch };
      this.#say(`claims it under epoch ${epoch}, attempt ${attempt}${again ? ", again" : ""}`, message.id);
    }
    for (const { id, dueMs } of result.later) {
      taken.add(id);
      this.#say(`claim: later, due ${trueDue(dueMs)}`, id);
    }
    const { expired, gone } = result;
    for (const id of asked) {
      if (taken.has(id)) continue;
      const [stored] = await this.#server.truth.get(shard, [id], 0 as EpochMs);
      const record = this.#server.ledger.messages.get(id);
      if (stored?.state === "expired" && record?.state === "scheduled") {
        record.state = "expired";
        record.expiredMs.push(this.#nowMs);
        this.#say("claim: expired", id);
      } else this.#say(`claim: not taken, it is ${stored?.state} (${gone} gone, ${expired} expired in this call)`, id);
    }
  }

  /** The node has heard of its claim. Sends are told from this which epoch they belong to. */
  handedOut(_shard: number, epoch: number, result: ClaimResult): void {
    for (const message of result.claimed) this.handed.set(message, epoch);
  }

  /** Object identity on purpose: what is sent must be what a claim gave, not something made up or kept from before. */
  get handed(): WeakMap<DelayedMessage, number> {
    return handedMessages;
  }

  settled(shard: number, epoch: number, outcomes: readonly Outcome[]): void {
    for (const outcome of outcomes) {
      const record = this.#record(shard, outcome.id);
      if (record.state !== "claimed") {
        this.#say(`settle ${outcome.kind}: nothing to do, it is ${record.state}`, outcome.id);
        continue;
      }
      const { kind } = outcome;
      record.state = kind === "delivered" ? "delivered" : kind === "bury" ? "dead" : "scheduled";
      record.claimedIn = undefined;
      if (kind === "bury") record.buriedMs.push(this.#nowMs);
      record.settled.push({
        atMs: this.#nowMs,
        node: this.#node,
        epoch,
        kind,
        ...(kind === "retry" ? { dueMs: outcome.dueMs } : {}),
      });
      const detail =
        kind === "retry" ? `, due ${trueDue(outcome.dueMs)}` : kind === "bury" ? `: ${outcome.reason.code}` : "";
      this.#say(`settles it: ${kind}${detail}`, outcome.id);
    }
  }

  #claimedIn(shard: number, matches: (epoch: number) => boolean): string[] {
    const ids: string[] = [];
    for (const { id, shard: its, state, claimedIn } of this.#server.ledger.messages.values()) {
      if (its === shard && state === "claimed" && claimedIn !== undefined && matches(claimedIn.epoch)) ids.push(id);
    }
    return ids;
  }

  #record(shard: number, id: string): MessageRecord {
    return this.#server.ledger.record(id, shard);
  }

  #say(what: string, id: string): void {
    this.#server.world.trace.say(`${this.#node.name} at store`, what, [id]);
  }

  get #nowMs(): number {
    return this.#server.world.nowMs;
  }
}

/** Which claim a message object came from; shared by all nodes, because objects never travel between them. */
export const handedMessages = new WeakMap<DelayedMessage, number>();

const textOf = (message: DelayedMessage): string => message.body.toString();

/** An instant of the wall clock in the trace's own seconds. */
export const trueDue = (atMs: number): string => `${((atMs - epochStartMs) / 1000).toFixed(3)} s`;
