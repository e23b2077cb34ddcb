import type { DatabaseSync, StatementSync } from "node:sqlite";
import { EscapementError, isEscapementError } from "../../message/errors.ts";
import { idBytes } from "../../message/id.ts";
import * as accepting from "./accepting.ts";
import { DocumentTable } from "./document-table.ts";
import { type Done, GroupCommit, type Work } from "./group-commit.ts";
import { Housekeeping } from "./housekeeping.ts";
import { Call, Ledger } from "./ledger.ts";
import * as owning from "./owning.ts";
import { putWakes, takeMessages, takeOutcomes } from "./packing.ts";
import { Parcel } from "./parcel.ts";
import * as reading from "./reading.ts";
import type { Answers, Post, PostReply, Reply, Request } from "./requests.ts";
import { fullSentence, sqliteFailure } from "./sqlite-errors.ts";
import { openSqliteFile, type SqliteFile, type SqliteFileOptions } from "./sqlite-file.ts";
import { TopicTable } from "./topic-table.ts";

/**
 * What has the file: posts of requests go in, and come out answered when they are on disk. It runs where it is put, on
 * a thread of its own or on the caller's; it has no clock, no timers and no promises. What a verb does is in
 * accepting.ts, owning.ts and reading.ts, the tables are in schema.ts.
 */
export class Engine {
  readonly #file: SqliteFile;
  readonly #db: DatabaseSync;
  readonly #ledger: Ledger;
  readonly #topics: TopicTable;
  readonly #documents: DocumentTable;
  readonly #commits: GroupCommit;
  readonly #housekeeping: Housekeeping;
  readonly #nextCommit: StatementSync;
  #clockMs = 0;
  #commit = 0;
  #isOnReserve: boolean;

  /**
   * Opens the folder's file, or makes both. Throws `store_refusing` when it is in use, not writable, damaged or newer
   * than this program, and `invalid_config` when its shard count is another.
   */
  static open(options: EngineOptions): Engine {
    try {
      return new Engine(options, false);
    } catch (error) {
      // The reserve was given up with that: now there is room to start, and to send what waits.
      if (!isEscapementError(error, "store_full")) throw error;
      return new Engine(options, true);
    }
  }

  private constructor(options: EngineOptions, isOnReserve: boolean) {
    const file = openSqliteFile(options);
    this.#isOnReserve = isOnReserve;
    try {
      const { db, path } = file;
      this.#file = file;
      this.#db = db;
      claimShardCount(db, path, options.shardCount);
      this.#ledger = new Ledger(db, () => this.#clockMs, options.dedupeWindowMs);
      this.#topics = new TopicTable(db);
      this.#documents = new DocumentTable(db);
      this.#housekeeping = new Housekeeping(db, this.#ledger);
      this.#nextCommit = db.prepare("UPDATE meta SET value = value + 1 WHERE name = 'commit' RETURNING value");
      this.#commits = new GroupCommit({
        db,
        path,
        finish: () => this.#ledger.write(),
        chores: () => this.#housekeeping.forget(),
        undone: () => this.#ledger.drop(),
        sealed: () => {
          this.#commit = this.#nextCommit.get()!.value as number;
        },
        committed: () => {
          file.mark.write(this.#commit);
          this.#housekeeping.shrinkSometimes();
        },
      });
    } catch (error) {
      const failure = sqliteFailure(error, file.path);
      if (failure.code === "store_full") file.reserve.release();
      file.close();
      throw failure;
    }
  }

  /** Everything in one transaction; each post gets its reply. */
  run(posts: readonly Post[]): PostReply[] {
    this.#clockMs = posts.at(-1)!.clockMs;
    const parcels = posts.map(() => new Parcel(parcelBytes));
    const works = posts.flatMap(({ requests, parcel }, i) => {
      const bytes = Buffer.from(parcel);
      return requests.map((request) => this.#work(request, bytes, parcels[i]!));
    });
    const isCheck = posts.some(({ requests }) => requests.some(({ verb }) => verb === "check"));
    if (isCheck && this.#commits.lastWriteFailure !== undefined) this.#housekeeping.makeRoom();
    const done = this.#runOnReserve(works);
    if (isCheck) {
      this.#keepReserve();
      this.#file.mark.sync();
      this.#housekeeping.shrinkSometimes();
    }
    let next = 0;
    return posts.map(({ requests }, i) => {
      const replies = requests.map((): Reply => {
        const one = done[next++]!;
        if ("error" in one) return { error: { code: one.error.code, message: one.error.message } };
        const { value, wakes } = one.value;
        if (wakes.length === 0) return { value, wakes: undefined };
        const start = parcels[i]!.length;
        putWakes(parcels[i]!, wakes);
        return { value, wakes: { start, count: wakes.length } };
      });
      return { replies, parcel: parcels[i]!.buffer };
    });
  }

  /** Carries the log back into the file. */
  close(): void {
    this.#file.close();
  }

  /** When the disk is full, once more with what was kept for that; from then on nothing is accepted. */
  #runOnReserve<T>(works: readonly Work<T>[]): Done<T>[] {
    const done = this.#commits.run(works);
    const isFull = done.some((one) => "error" in one && one.error.code === "store_full");
    if (!isFull || this.#isOnReserve || !this.#file.reserve.release()) return done;
    this.#isOnReserve = true;
    this.#housekeeping.makeRoom();
    return done.map((one, i) =>
      "error" in one && one.error.code === "store_full" ? this.#commits.run([works[i]!])[0]! : one,
    );
  }

  #keepReserve(): void {
    const { reserve } = this.#file;
    const hasRoom = reserve.grow();
    if (this.#isOnReserve && hasRoom && reserve.isWhole) this.#isOnReserve = false;
  }

  /** Said before anything is done. */
  #assertRoomForMore(): void {
    if (!this.#isOnReserve) return;
    throw new EscapementError("store_full", `${this.#file.path} ${fullSentence}`);
  }

  #work(request: Request, bytes: Buffer, parcel: Parcel): Work<{ value: unknown; wakes: Call["wakes"] }> {
    return {
      writes: !reads.has(request.verb),
      run: () => {
        const call = new Call("shard" in request ? request.shard : 0, this.#ledger.counts);
        return { value: this.#answer(request, call, bytes, parcel), wakes: call.wakes };
      },
    };
  }

  #answer(request: Request, call: Call, bytes: Buffer, parcel: Parcel): Answers[Request["verb"]] {
    const ledger = this.#ledger;
    switch (request.verb) {
      case "schedule": {
        this.#assertRoomForMore();
        for (const [lane, topic] of request.names) ledger.counts.name(lane, topic);
        return accepting.schedule(ledger, call, takeMessages(bytes, request.start, request.count));
      }
      case "bury": {
        this.#assertRoomForMore();
        const messages = takeMessages(bytes, request.start, request.count);
        accepting.bury(ledger, call, messages, request.reasons, request.nowMs);
        return undefined;
      }
      case "cancel":
        return accepting.cancel(ledger, call, request.ids, request.nowMs);
      case "reschedule":
        return accepting.reschedule(ledger, call, request.changes);
      case "get":
        return reading.get(ledger, request.shard, request.ids);
      case "dead":
        return reading.dead(ledger, request.shard, request.from, request.limit);
      case "revive": {
        this.#assertRoomForMore();
        for (const [lane, topic] of request.names) ledger.counts.name(lane, topic);
        return accepting.revive(ledger, call, takeMessages(bytes, request.start, request.count), request.diedAtMs);
      }
      case "discard":
        return accepting.discard(ledger, call, request.deaths, request.nowMs);
      case "stats":
        return reading.stats(ledger, request.shard, request.nowMs);
      case "acquire":
        return ledger.leases.acquire(request.shard, request.owner, request.leaseMs);
      case "renew":
        return request.leases.map(({ shard, epoch }) =>
          ledger.leases.renew(shard, epoch, request.owner, request.leaseMs),
        );
      case "release":
        ledger.leases.release(request.shard, request.epoch, request.owner);
        return undefined;
      case "recover":
        return owning.recover(ledger, call, request.epoch, Math.min(request.limit, recoverMax));
      case "near":
        return reading.near(ledger, request.shard, request.fromMs, request.untilMs, request.cursor, request.limit);
      case "count":
        return reading.count(ledger, request.shard, request.fromMs, request.untilMs);
      case "claim": {
        const ids = bytes.subarray(request.start, request.start + idBytes * request.count);
        return owning.claim(ledger, call, request.epoch, ids, request.nowMs, request.bytesMax, parcel);
      }
      case "settle": {
        const outcomes = takeOutcomes(bytes, request.start, request.count, request.reasons);
        return owning.settle(ledger, call, request.epoch, outcomes, request.nowMs);
      }
      case "topics":
        return this.#topics.known();
      case "remember":
        this.#topics.remember(request.topic);
        return undefined;
      case "readDocument":
        return this.#documents.read(request.kind, request.name);
      case "listDocuments":
        return this.#documents.page(request.kind, request.prefix, request.after, request.limit);
      case "writeDocument":
        // What is there already may change on a full disk: the little it needs is what the reserve is for.
        if (request.expected === 0) this.#assertRoomForMore();
        return this.#documents.write(request.kind, request.name, request.body, request.expected);
      case "removeDocument":
        return this.#documents.remove(request.kind, request.name, request.expected);
      case "check":
        return this.#check();
    }
  }

  /**
   * Asked regularly, so it is also when a store without traffic forgets and shrinks. A failed write is a warning of the
   * first check after it, and of every further one until there is room again: each call is refused by itself. Damage is
   * a problem. Nothing is written, and so no fsync made, unless something is to be forgotten or a failure to be looked
   * at again.
   */
  #check(): Answers["check"] {
    const { damage, lastWriteFailure } = this.#commits;
    if (lastWriteFailure !== undefined) this.#db.exec(probeSql);
    const full = this.#isOnReserve ? `${this.#file.path} ${fullSentence}` : lastWriteFailure;
    return { problems: damage === undefined ? [] : [damage], warnings: full === undefined ? [] : [full] };
  }
}

export type EngineOptions = SqliteFileOptions & { readonly dedupeWindowMs: number; readonly shardCount: number };

const reads: ReadonlySet<Request["verb"]> = new Set([
  "get",
  "dead",
  "stats",
  "near",
  "topics",
  "readDocument",
  "listDocuments",
]);

/** Holds what a claim of 100 ordinary messages answers; a larger answer makes it grow. */
const parcelBytes = 32 * 1024;

/** Changes a page, so that it needs room in the log. */
const probeSql =
  "INSERT INTO meta (name, value) VALUES ('probe', 1) ON CONFLICT (name) DO UPDATE SET value = 1 - value";

/** Some milliseconds' work. */
const recoverMax = 1_000;

const claimShardCount = (db: DatabaseSync, path: string, shardCount: number): void => {
  db.prepare("INSERT OR IGNORE INTO meta (name, value) VALUES ('shards', ?)").run(shardCount);
  const stored = db.prepare("SELECT value FROM meta WHERE name = 'shards'").get()!.value as number;
  if (stored === shardCount) return;
  throw new EscapementError(
    "invalid_config",
    `SHARDS is ${shardCount}, but ${path} was written with ${stored}; set it to ${stored} or use another folder`,
    { field: "SHARDS" },
  );
};
