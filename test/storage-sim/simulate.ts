import { BrokerError } from "../../src/broker/broker-error.ts";
import type { BrokerMessage } from "../../src/broker/broker-message.ts";
import type { Files } from "../../src/broker/files/files.port.ts";
import { CommitLogStore } from "../../src/broker/storage/commit-log-store.ts";
import { frameHeaderBytes } from "../../src/broker/storage/frame.ts";
import { epochMs } from "../../src/message/time.ts";
import type { Log } from "../../src/runtime/log.ts";
import type { Timers } from "../../src/runtime/timers.ts";
import type { Prng } from "../sim/prng.ts";
import type { Trace } from "../sim/trace.ts";
import { epochStartMs, World } from "../sim/world.ts";
import { FaultyDisk } from "./faulty-disk.ts";
import { Ledger, type Sent, type Violation } from "./ledger.ts";
import { optionsOf, type StorageSimOptions } from "./options.ts";

/**
 * One seed: a store on a faulty disk is sent messages, crashes, is opened again, meets a full disk, flipped bits and
 * syncs that fail, and is held against the ledger after every start and at the end, when all troubles are over.
 */
export type StorageRun = {
  readonly options: StorageSimOptions;
  readonly violations: readonly Violation[];
  readonly trace: Trace;
  readonly stored: number;
  readonly starts: number;
};

/** A bug put in on purpose, for the test that the simulation bites. */
export type Plant = {
  /** Between the store and the disk. */
  readonly files?: (files: Files) => Files;
  /** Changed code, until the returned function is called. */
  readonly code?: () => () => void;
};

export const simulateStorage = async (seed: number, plant: Plant = {}): Promise<StorageRun> => {
  const restore = plant.code?.();
  try {
    return await new StorageSim(seed, plant).run();
  } finally {
    restore?.();
  }
};

/** What `async` may lose with the power: half a second and the time that the sync takes. */
const asyncLossMs = 520;

class StorageSim {
  readonly #options: StorageSimOptions;
  readonly #world: World;
  readonly #random: Prng;
  readonly #disk: FaultyDisk;
  readonly #ledger = new Ledger();
  readonly #plant: Plant;
  #life = 0;
  #store: CommitLogStore | undefined;
  #opening = false;
  #starts = 0;
  #clockOffsetMs = 0;
  /** Disk trouble since then explains refusals. */
  #fullUntilMs = -1;
  /** What a deletion that a crash interrupted was about: all of it is gone after the start, or nothing. */
  readonly #keepBytes: number;
  /** Whether this process was asked to remove what is old, which it does when it comes to it. */
  #collecting = false;
  readonly #undecided = new Set<readonly Sent[]>();
  #stepsLeft: number;
  #healed = false;
  #done = false;

  constructor(seed: number, plant: Plant) {
    this.#options = optionsOf(seed);
    this.#plant = plant;
    this.#world = new World(seed);
    this.#random = this.#world.random.fork("storage storm");
    this.#disk = new FaultyDisk(this.#world);
    this.#stepsLeft = this.#options.steps;
    this.#keepBytes = this.#options.segmentBytes * this.#random.pick([0.5, 1.5, 3]);
  }

  async run(): Promise<StorageRun> {
    if (this.#options.troubles.slowSyncs) this.#disk.syncMsMax = 800;
    this.#open();
    this.#next();
    await this.#world.run(10_000_000, () => this.#done);
    if (!this.#done) this.#ledger.broken("a store answers", "the day did not come to its end");
    return {
      options: this.#options,
      violations: this.#ledger.violations,
      trace: this.#world.trace,
      stored: this.#ledger.sent.filter(({ fate }) => fate === "stored").length,
      starts: this.#starts,
    };
  }

  /** Plans the next step; each leaves time for what goes on, or none. */
  #next(): void {
    this.#world.after(
      this.#random.chance(0.3) ? 0 : this.#random.between(0, this.#options.pauseMsMax),
      undefined,
      () => {
        if (this.#stepsLeft-- > 0) {
          this.#step();
          this.#next();
        } else if (!this.#healed) this.#heal();
      },
    );
  }

  #step(): void {
    const { troubles } = this.#options;
    const dice = this.#random.float();
    if (dice < 0.6) this.#send();
    else if (dice < 0.66) this.#checkAll("while it runs");
    else if (dice < 0.72) void this.#closeAndOpen();
    else if (dice < 0.78 && troubles.powerCuts) this.#crash("power");
    else if (dice < 0.82 && troubles.kills) this.#crash("process");
    else if (dice < 0.85 && troubles.flips) this.#flip();
    else if (dice < 0.88 && troubles.full) this.#fill();
    else if (dice < 0.9 && troubles.failingSyncs) this.#failSyncs();
    else if (dice < 0.93 && troubles.lostFiles) this.#loseFile();
    else if (dice < 0.96 && troubles.deletions) this.#deleteTopic();
    else if (dice < 0.975 && troubles.retention) this.#collect();
    else if (troubles.clockSteps) this.#clockOffsetMs += this.#random.whole(-86_400_000, 86_400_000);
  }

  #send(): void {
    const store = this.#store;
    if (store === undefined) return;
    const topic = `topic-${this.#random.whole(1, this.#options.topics)}`;
    const queueId = this.#random.whole(0, this.#options.queues - 1);
    const from = this.#ledger.sent.length;
    const messages = Array.from({ length: this.#random.pick([1, 1, 2, 3]) }, (_, i) => this.#message(topic, from + i));
    const sent = this.#ledger.add(topic, queueId, messages);
    const numbers = sent.map(({ number }) => number).join(" ");
    const life = this.#life;
    this.#world.trace.note("producer", `sends ${numbers} to ${topic}/${queueId}`);
    store.append(topic, queueId, messages).then(
      (offset) => {
        if (this.#life !== life) return;
        this.#world.trace.note("store", `acknowledges ${numbers} from offset ${offset}`);
        for (const [i, one] of sent.entries()) {
          if (one.gone) continue;
          Object.assign(one, { fate: "stored", offset: offset + i, ackedAtMs: this.#world.nowMs });
          const entry = store.entries(topic, queueId, offset + i, 1)[0];
          if (entry?.queueOffset === offset + i) one.entry = entry;
          const read = entry === undefined ? undefined : store.read(entry);
          if (Number(read?.messageId) !== one.number && !one.damaged) {
            this.#ledger.broken("what was acknowledged can be read", `${topic}/${queueId}: message ${one.number}`);
          }
        }
      },
      (error: unknown) => {
        if (this.#life !== life) return;
        this.#world.trace.note("store", `refuses ${numbers}: ${(error as Error).message}`);
        this.#refused(sent, error);
      },
    );
  }

  #message(topic: string, number: number): BrokerMessage {
    const { bodyBytesMax } = this.#options;
    const type = this.#random.pick(["NORMAL", "FIFO", "DELAY", "TRANSACTION"] as const);
    return {
      topic,
      messageId: String(number),
      type,
      tag: this.#random.pick([undefined, "", "a", "größer"]),
      messageGroup: this.#random.pick([undefined, "g", "Gruppe-ß"]),
      deliverAtMs: type === "DELAY" ? this.#random.whole(1, 2 ** 41) : undefined,
      userProperties: this.#random.bytes(Buffer.alloc(this.#random.whole(0, 12))),
      systemProperties: this.#random.bytes(Buffer.alloc(this.#random.whole(0, 12))),
      body: this.#random.bytes(Buffer.alloc(this.#random.whole(0, bodyBytesMax))),
    };
  }

  #refused(sent: readonly Sent[], error: unknown): void {
    const text = error instanceof BrokerError ? error.message : `not a BrokerError: ${String(error)}`;
    const unknown = /unknown/.test(text);
    const explained = /unknown|EIO/.test(text)
      ? this.#disk.syncFailedAtMs > Number.NEGATIVE_INFINITY
      : /closed/.test(text) || (/disk is full/.test(text) && this.#fullUntilMs >= this.#world.nowMs - 10_000);
    if (!explained) this.#ledger.broken("a send is refused for a reason", text);
    for (const one of sent) if (one.fate === "sent") one.fate = unknown ? "unknown" : "refused";
    // It takes nothing any more; somebody starts it anew.
    if (unknown) this.#world.after(this.#random.between(0, 20), undefined, () => this.#crash(this.#anyCrash()));
  }

  #anyCrash(): "process" | "power" {
    return this.#options.troubles.powerCuts ? this.#random.pick(["power", "process"]) : "process";
  }

  #crash(kind: "process" | "power"): void {
    if (this.#store === undefined && !this.#opening) return;
    this.#world.trace.mark("world", kind === "power" ? "the power fails" : "the process is killed");
    this.#life++;
    this.#store = undefined;
    this.#opening = false;
    this.#markOld();
    this.#collecting = false;
    this.#disk.crash(kind);
    const { flush } = this.#options;
    const lossFromMs =
      Math.min(this.#world.nowMs, this.#disk.syncFailedAtMs > 0 ? this.#disk.syncFailedAtMs : Infinity) - asyncLossMs;
    for (const one of this.#ledger.sent) {
      if (one.fate === "sent") one.fate = "unknown";
      if (flush === "async" && kind === "power" && one.fate === "stored" && one.ackedAtMs >= lossFromMs)
        one.fate = "unknown";
    }
    if (kind === "power") this.#disk.syncFailedAtMs = Number.NEGATIVE_INFINITY;
    this.#world.after(this.#random.between(0, 20), undefined, () => this.#open());
  }

  #open(): void {
    if (this.#store !== undefined || this.#opening) return;
    this.#opening = true;
    const life = this.#life;
    const mounted = this.#disk.mount();
    CommitLogStore.open({
      files: this.#plant.files?.(mounted) ?? mounted,
      flush: this.#options.flush,
      segmentBytes: this.#options.segmentBytes,
      entriesPerFile: this.#options.entriesPerFile,
      retention: { keepMs: 365 * 86_400_000, keepBytes: this.#keepBytes },
      clock: {
        nowMs: () => epochMs(epochStartMs + Math.floor(this.#world.nowMs) + this.#clockOffsetMs),
        monotonicMs: () => this.#world.nowMs,
      },
      timers: this.#timers(life),
      log: this.#log(life),
    }).then(
      (store) => {
        if (this.#life !== life) return;
        this.#opening = false;
        this.#store = store;
        this.#starts++;
        this.#disk.syncFailedAtMs = Number.NEGATIVE_INFINITY;
        this.#world.trace.mark("store", "is open");
        this.#decideDeletions(store);
        this.#checkAll("after a start");
        if (this.#healed) void this.#lastCheck();
      },
      (error: unknown) => {
        if (this.#life !== life) return;
        this.#opening = false;
        this.#life++;
        this.#disk.crash("process");
        this.#world.trace.mark("store", `cannot be opened: ${(error as Error).message}`);
        const troubled = this.#disk.syncFailedAtMs > Number.NEGATIVE_INFINITY || this.#fullUntilMs >= this.#world.nowMs;
        if (!troubled) this.#ledger.broken("a store can be opened", String((error as Error).stack));
        if (troubled) this.#world.after(50, undefined, () => this.#open());
        else this.#done = true;
      },
    );
  }

  async #closeAndOpen(): Promise<void> {
    const store = this.#store;
    if (store === undefined) return;
    const life = this.#life;
    this.#world.trace.mark("world", "the store is closed");
    this.#store = undefined;
    this.#opening = true;
    // A disk that is full or fails while it closes is as bad as a crash, and no worse.
    await store.close().catch((error: unknown) => this.#world.trace.mark("store", `closes badly: ${String(error)}`));
    if (this.#life !== life) return;
    this.#crash("process");
  }

  #timers(life: number): Timers {
    return {
      after: (delayMs, callback) => {
        const event = this.#world.after(delayMs, undefined, () => {
          if (this.#life === life) callback();
        });
        return {
          cancel: () => {
            event.canceled = true;
          },
        };
      },
    };
  }

  #log(life: number): Log {
    const say =
      (level: string) =>
      (fields: unknown, text?: string): void => {
        if (this.#life === life) this.#world.trace.mark("store", `${level}: ${text} ${JSON.stringify(fields)}`);
      };
    const log = { debug: say("debug"), info: say("info"), warn: say("warn"), error: say("error"), fatal: say("fatal") };
    return log as unknown as Log;
  }

  #flip(): void {
    const paths = this.#disk.paths().filter((path) => this.#disk.sizeOf(path) > 0 && !this.#isPrecious(path));
    if (paths.length === 0) return;
    const path = this.#random.pick(paths);
    const at = this.#random.whole(0, this.#disk.sizeOf(path) - 1);
    const position = path.startsWith("commitlog/") ? Number(path.slice("commitlog/".length, -".log".length)) + at : -1;
    // The news that a topic was deleted is lost with its record, and what was in it may return; that is not looked at.
    if (position >= 0 && this.#options.troubles.deletions) return;
    this.#world.trace.mark("world", `a bit flips in ${path} at ${at}`);
    this.#disk.flip(path, at, this.#random.whole(0, 7));
    if (position < 0) return;
    for (const one of this.#ledger.sent) {
      // What is not known to be stored may lie anywhere.
      if (one.fate !== "stored" || one.entry === undefined) one.damaged = true;
      else if (position >= one.entry.position && position < one.entry.position + frameHeaderBytes + one.entry.bytes) {
        one.damaged = true;
      }
    }
  }

  /** Of a queue whose messages are all gone with age, the checkpoint alone knows the next offset. */
  #isPrecious(path: string): boolean {
    return this.#options.troubles.retention && path.startsWith("checkpoint");
  }

  #fill(): void {
    this.#disk.capacityBytes = this.#disk.usedBytes + this.#random.whole(0, 600);
    const forMs = this.#random.between(1, 3 * this.#options.pauseMsMax);
    this.#fullUntilMs = Math.max(this.#fullUntilMs, this.#world.nowMs + forMs);
    this.#world.trace.mark("world", `the disk is full for ${Math.round(forMs)} ms`);
    this.#world.after(forMs, undefined, () => {
      if (this.#world.nowMs >= this.#fullUntilMs) this.#disk.capacityBytes = Number.POSITIVE_INFINITY;
    });
  }

  #failSyncs(): void {
    this.#world.trace.mark("world", "syncs fail");
    this.#disk.failSyncProbability = this.#random.pick([0.3, 1]);
    this.#world.after(this.#random.between(1, 50), undefined, () => {
      this.#disk.failSyncProbability = 0;
    });
  }

  #collect(): void {
    const store = this.#store;
    if (store === undefined) return;
    const life = this.#life;
    this.#world.trace.mark("world", "retention looks for old messages");
    // What surely stands in the log by now.
    const stored = this.#ledger.sent.filter(
      ({ fate, gone, entry }) => fate === "stored" && !gone && entry !== undefined,
    );
    const end = Math.max(0, ...stored.map(({ entry }) => entry!.position + frameHeaderBytes + entry!.bytes));
    const mustGo = stored.filter((one) => this.#isOld(one, end));
    this.#collecting = true;
    store
      .collect(epochStartMs, () => undefined)
      .then(
        () => {
          if (this.#life !== life) return;
          this.#world.trace.mark("store", "has removed old messages");
          this.#markOld();
          for (const { topic, queueId, offset, number, gone, damaged } of mustGo) {
            if (gone || damaged || store.range(topic, queueId).first > offset) continue;
            this.#ledger.broken(
              "retention removes what is too much",
              `${topic}/${queueId}: message ${number} at ${offset}`,
            );
          }
        },
        (error: unknown) => this.#world.trace.mark("store", `cannot remove old messages: ${String(error)}`),
      );
  }

  #logEnd(): number {
    const last = this.#disk.paths().findLast((path) => path.startsWith("commitlog/"));
    return last === undefined ? 0 : Number(last.slice("commitlog/".length, -".log".length)) + this.#disk.sizeOf(last);
  }

  /** Whether the log may lose this one's segment when it ends at `end`. */
  #isOld({ entry }: Sent, end: number): boolean {
    if (entry === undefined) return false;
    const { segmentBytes } = this.#options;
    const start = Math.floor(entry.position / segmentBytes) * segmentBytes;
    return start + segmentBytes <= end && end - start > this.#keepBytes;
  }

  /** What a retention that was asked for may have removed so far. */
  #markOld(): void {
    if (!this.#collecting) return;
    const end = this.#logEnd();
    for (const one of this.#ledger.sent) if (this.#isOld(one, end)) one.old = true;
  }

  /** Somebody cleans up: the next start finds a consume queue, or the checkpoint, missing. */
  #loseFile(): void {
    const paths = this.#disk.paths().filter((path) => !path.startsWith("commitlog/") && !this.#isPrecious(path));
    if (paths.length === 0) return;
    this.#crash("process");
    const path = this.#random.pick(paths);
    this.#world.trace.mark("world", `${path} is lost`);
    this.#disk.lose(path);
  }

  #deleteTopic(): void {
    const store = this.#store;
    if (store === undefined) return;
    const topic = `topic-${this.#random.whole(1, this.#options.topics)}`;
    const mine = this.#ledger.sent.filter((sent) => sent.topic === topic && !sent.gone);
    // One that is sent meanwhile may fall on either side of it.
    if (mine.some(({ fate }) => fate === "sent" || fate === "unknown")) return;
    const life = this.#life;
    this.#world.trace.mark("world", `${topic} is deleted`);
    for (const one of mine) one.gone = true;
    this.#undecided.add(mine);
    store.deleteTopic(topic).then(
      () => {
        if (this.#life !== life) return;
        this.#world.trace.mark("store", `has deleted ${topic}`);
        // `async` may lose the news of it with the power.
        this.#world.after(this.#options.flush === "sync" ? 0 : asyncLossMs, undefined, () =>
          this.#undecided.delete(mine),
        );
      },
      (error: unknown) => {
        if (this.#life !== life || !(error instanceof BrokerError)) return;
        // It stays as long as this process runs; the next may find that it was deleted.
        for (const one of mine) one.gone = false;
        if (!/unknown/.test(error.message)) this.#undecided.delete(mine);
      },
    );
  }

  #decideDeletions(store: CommitLogStore): void {
    for (const mine of this.#undecided) {
      const isThere = mine.some(({ fate, topic, queueId, offset, number }) => {
        const [entry] = fate === "stored" ? store.entries(topic, queueId, offset, 1) : [];
        return entry !== undefined && Number(store.read(entry)?.messageId) === number;
      });
      for (const one of mine) one.gone = !isThere;
    }
    this.#undecided.clear();
  }

  #checkAll(when: string): void {
    const store = this.#store;
    if (store === undefined) return;
    this.#markOld();
    for (let topic = 1; topic <= this.#options.topics; topic++) {
      for (let queueId = 0; queueId < this.#options.queues; queueId++) {
        const name = `topic-${topic}`;
        const { first, next } = store.range(name, queueId);
        const entries = [];
        // By pages, as consumers do.
        for (let from = first; from < next; from += 7) entries.push(...store.entries(name, queueId, from, 7));
        this.#ledger.check(name, queueId, { first, next, entries, read: (entry) => store.read(entry) }, when);
      }
    }
  }

  /** All troubles are over: what must be there is there, and the store works. */
  #heal(): void {
    this.#healed = true;
    this.#world.trace.mark("world", "all troubles are over");
    this.#fullUntilMs = this.#world.nowMs;
    this.#disk.capacityBytes = Number.POSITIVE_INFINITY;
    this.#disk.failSyncProbability = 0;
    this.#world.after(3_000, undefined, () => {
      if (this.#store === undefined) this.#open();
      else this.#crash(this.#anyCrash());
    });
  }

  async #lastCheck(): Promise<void> {
    const store = this.#store!;
    this.#stepsLeft = 0;
    for (let topic = 1; topic <= this.#options.topics; topic++) {
      for (let queueId = 0; queueId < this.#options.queues; queueId++) {
        const name = `topic-${topic}`;
        const message = this.#message(name, this.#ledger.sent.length);
        const [one] = this.#ledger.add(name, queueId, [message]);
        try {
          const offset = await store.append(name, queueId, [message]);
          Object.assign(one!, { fate: "stored", offset });
        } catch (error) {
          this.#ledger.broken("a store works again when troubles are over", String(error));
        }
      }
    }
    this.#checkAll("at the end");
    await store.close();
    this.#done = true;
  }
}
