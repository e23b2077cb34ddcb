import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { ShardStats } from "../../delay/delay-store.port.ts";
import { hour, minute } from "../../message/time.ts";

/**
 * How many wait, by topic and by when, for people. The counts by topic are kept with every change, since counting a
 * million rows would hold everything up; those by time are counted from the due index when asked.
 */
export class WaitingCount {
  readonly #change: StatementSync;
  readonly #name: StatementSync;
  readonly #byTopic: StatementSync;
  readonly #dueUntil: StatementSync;
  readonly #byStep: StatementSync;
  /** Shard and lane, to what the transaction changes. */
  readonly #changes = new Map<number, number>();
  /** Lanes whose topic is in the file, or in a transaction not yet undone. */
  readonly #named = new Set<number>();

  constructor(db: DatabaseSync) {
    this.#change = db.prepare(
      `INSERT INTO waiting (shard, lane, messages) VALUES (?, ?, ?)
       ON CONFLICT (shard, lane) DO UPDATE SET messages = messages + excluded.messages`,
    );
    this.#name = db.prepare("INSERT OR IGNORE INTO lane (lane, topic) VALUES (?, ?)");
    this.#byTopic = db.prepare(
      `SELECT topic, sum(messages) AS messages FROM waiting JOIN lane USING (lane)
       WHERE shard = ? AND messages > 0 GROUP BY topic`,
    );
    this.#dueUntil = db.prepare("SELECT count(*) AS messages FROM due WHERE shard = ? AND due <= ?");
    this.#byStep = db.prepare(
      // Numbers are bound as fractions, so the division has to be told that it is one of integers.
      `SELECT CAST(due - $nowMs - 1 AS INTEGER) / CAST($stepMs AS INTEGER) AS step, count(*) AS messages FROM due
       WHERE shard = $shard AND due > $nowMs AND due <= $nowMs + $stepMs * $steps GROUP BY step`,
    );
  }

  /** The lane's topic, said before its messages are counted. */
  name(lane: number, topic: string): void {
    if (this.#named.has(lane)) return;
    this.#name.run(lane, topic);
    if (this.#named.size >= namedMax) this.#named.clear();
    this.#named.add(lane);
  }

  change(shard: number, lane: number, by: number): void {
    const place = shard * lanesMax + lane;
    this.#changes.set(place, (this.#changes.get(place) ?? 0) + by);
  }

  /** At the end of the transaction, and before somebody asks. */
  write(): void {
    for (const [place, by] of this.#changes) {
      if (by !== 0) this.#change.run(Math.floor(place / lanesMax), place % lanesMax, by);
    }
    this.#changes.clear();
  }

  /** The transaction is taken back, and with it perhaps a name. */
  drop(): void {
    this.#changes.clear();
    this.#named.clear();
  }

  byTopic(shard: number): ReadonlyMap<string, number> {
    this.write();
    const rows = this.#byTopic.all(shard) as { topic: string; messages: number }[];
    return new Map(rows.map(({ topic, messages }) => [topic, messages]));
  }

  /** `out` are the dues of those that are in the index but do not wait. */
  byTime(
    shard: number,
    nowMs: number,
    out: readonly number[],
  ): Pick<ShardStats, "dueNow" | "duePerMinute" | "duePerHour"> {
    return {
      dueNow: (this.#dueUntil.get(shard, nowMs)!.messages as number) - out.filter((dueMs) => dueMs <= nowMs).length,
      duePerMinute: this.#perStep(shard, nowMs, minute, 60, out),
      duePerHour: this.#perStep(shard, nowMs, hour, 24, out),
    };
  }

  #perStep(shard: number, nowMs: number, stepMs: number, steps: number, out: readonly number[]): number[] {
    const counts = new Array<number>(steps).fill(0);
    const rows = this.#byStep.all({ shard, nowMs, stepMs, steps }) as { step: number; messages: number }[];
    for (const { step, messages } of rows) counts[step] = messages;
    for (const dueMs of out) {
      const step = Math.floor((dueMs - nowMs - 1) / stepMs);
      if (dueMs > nowMs && step < steps) counts[step]!--;
    }
    return counts;
  }
}

/** Some megabytes at most; what is cleared is looked up again. */
const namedMax = 100_000;

/** Lanes have 32 bits; a number that holds shard and lane stays well within what a double can count. */
const lanesMax = 2 ** 32;
