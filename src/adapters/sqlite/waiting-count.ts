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

  /** A call was undone, and with it perhaps a name. */
  doubtNames(): void {
    this.#named.clear();
  }

  change(shard: number, lane: number, by: number): void {
    if (by !== 0) this.#change.run(shard, lane, by);
  }

  byTopic(shard: number): ReadonlyMap<string, number> {
    const rows = this.#byTopic.all(shard) as { topic: string; messages: number }[];
    return new Map(rows.map(({ topic, messages }) => [topic, messages]));
  }

  byTime(shard: number, nowMs: number): Pick<ShardStats, "dueNow" | "duePerMinute" | "duePerHour"> {
    return {
      dueNow: this.#dueUntil.get(shard, nowMs)!.messages as number,
      duePerMinute: this.#perStep(shard, nowMs, minute, 60),
      duePerHour: this.#perStep(shard, nowMs, hour, 24),
    };
  }

  #perStep(shard: number, nowMs: number, stepMs: number, steps: number): number[] {
    const counts = new Array<number>(steps).fill(0);
    const rows = this.#byStep.all({ shard, nowMs, stepMs, steps }) as { step: number; messages: number }[];
    for (const { step, messages } of rows) counts[step] = messages;
    return counts;
  }
}

/** Some megabytes at most; what is cleared is looked up again. */
const namedMax = 100_000;
