import { createHash } from "node:crypto";
import { type DocumentStore, documentLimits, type StoredDocument } from "../documents/document-store.port.ts";
import type { EpochMs } from "../message/time.ts";
import { allowedPerSec, type BreakerPhase, closedBreaker, nextChangeMs } from "../retry/breaker.ts";
import { defaultBreaker, defaultBudget } from "../retry/policy.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { DependencyReport, DependencyView } from "../wire/consumer-sync.ts";
import {
  contribute,
  type Forced,
  force,
  newShared,
  phaseOf,
  type Release,
  releaseOf,
  type SharedBreaker,
  sumOf,
  workersOf,
} from "./shared-breaker.ts";
import { readTerms, Watched } from "./watched.ts";

/**
 * The board of dependencies of this process: it takes the reports of the workers that come to it, adds them twice a
 * second to what all processes hold together (one document for each key that is not simply well), and tells each worker
 * its share.
 *
 * Written is only what has something to say: a key that fails noticeably, is not closed, is forced, or has messages
 * parked. And at most {@link writesMax} documents each time; the others have their turn at the next.
 *
 * When the documents cannot be reached the board goes on by itself on what it last knew, and adds it when they are back.
 */
export type BoardOptions = {
  readonly documents: DocumentStore;
  readonly clock: Clock;
  readonly log: Log;
  /** This process, as in `members`. */
  readonly node: string;
  /** The processes of the service that live. */
  readonly members: () => readonly string[];
};

const kind = "breaker";
const tickMs = 500;
/** At once and each time. Reached only when hundreds of dependencies change together. */
const writesMax = 200;
const writesAtOnce = 20;
/** Where more keys are reported than this, new ones are each worker's own business. */
const keysMax = 20_000;
const triesMax = 5;

export class DependencyBoard {
  readonly #options: BoardOptions;
  readonly #keys = new Map<string, Watched>();
  /** Keys to look at in the next tick; the first ones have waited longest. */
  readonly #stirred = new Set<Watched>();
  /** Of the listing in turns: behind which name it goes on. */
  #listedUntil = "";
  #tickedAtMs = 0;

  constructor(options: BoardOptions) {
    this.#options = options;
  }

  /** Takes a worker's reports and answers what holds for each of them. */
  sync(worker: string, reports: readonly DependencyReport[]): DependencyView[] {
    const nowMs = this.#options.clock.nowMs();
    return reports.map((report) => {
      const watched = this.#watch(report.key, nowMs);
      if (watched === undefined) return unwatchedView(report);
      watched.take(worker, report, nowMs);
      this.#stirred.add(watched);
      return this.#viewFor(watched, worker, nowMs);
    });
  }

  /** Messages lie parked for this key. */
  sawParked(key: string): void {
    const nowMs = this.#options.clock.nowMs();
    const watched = this.#watch(key, nowMs);
    if (watched === undefined) return;
    watched.parkedAtMs = nowMs;
    this.#stirred.add(watched);
  }

  /** Undefined: not known yet; ask again after `sawParked` and a tick. */
  releaseOf(key: string): Release | undefined {
    const shared = this.#keys.get(key)?.shared;
    return shared === undefined ? undefined : releaseOf(shared, this.#options.clock.nowMs());
  }

  /** Adds what was reported since, and reads what the others wrote. */
  async runOnce(): Promise<number> {
    const nowMs = this.#options.clock.nowMs();
    const passedMs = Math.min(10_000, Math.max(1, nowMs - this.#tickedAtMs));
    this.#tickedAtMs = nowMs;
    for (const watched of this.#keys.values()) {
      watched.tick(passedMs, nowMs);
      if (watched.isForgettable(nowMs)) this.#keys.delete(watched.key);
    }
    let failure: unknown;
    await this.#readOthers().catch((error: unknown) => {
      failure = error;
    });
    const waiting = this.#toWrite(nowMs);
    await Promise.all(
      Array.from({ length: writesAtOnce }, async () => {
        for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
          await this.#write(next, nowMs).catch((error: unknown) => {
            failure ??= error;
          });
        }
      }),
    );
    if (failure !== undefined) throw failure;
    return tickMs;
  }

  // --- for people -----------------------------------------------------------------------------------------------

  /** Of the keys behind `after`, in their order. */
  known(after: string, limit: number): { readonly key: string; readonly watched: Watched }[] {
    const keys = [...this.#keys.keys()].filter((key) => key > after).sort();
    return keys.slice(0, limit).map((key) => ({ key, watched: this.#keys.get(key)! }));
  }

  find(key: string): Watched | undefined {
    return this.#keys.get(key);
  }

  /** By process: of ours what holds now, of the others what they wrote last. */
  sharesOf(watched: Watched): SharedBreaker["nodes"] {
    const { node } = this.#options;
    return { ...watched.shared?.nodes, [node]: watched.part(node).share };
  }

  phase(key: string): BreakerPhase {
    return phaseIn(this.#keys.get(key), this.#options.clock.nowMs());
  }

  get notClosed(): number {
    const nowMs = this.#options.clock.nowMs();
    let count = 0;
    for (const watched of this.#keys.values()) if (phaseIn(watched, nowMs) !== "closed") count++;
    return count;
  }

  /** The newest there is: what another process has written is told too. */
  async look(key: string): Promise<Watched | undefined> {
    const document = await this.#options.documents.read(kind, nameOf(key));
    if (document !== undefined) this.#adopt(document);
    return this.#keys.get(key);
  }

  /** Holds it open or closed until then; undefined ends that. */
  async force(key: string, forced: Forced | undefined): Promise<void> {
    const { documents, clock, log } = this.#options;
    const nowMs = clock.nowMs();
    for (let attempt = 0; attempt < triesMax; attempt++) {
      const document = await documents.read(kind, nameOf(key));
      const watched = this.#keys.get(key);
      const shared =
        (document && sharedIn(document)) ??
        newShared(key, closedBreaker(nowMs), watched?.part(this.#options.node) ?? unknownPart(this.#options.node));
      const next = force(shared, forced, nowMs);
      const result = await documents.write(kind, nameOf(key), JSON.stringify(next), document?.revision ?? 0);
      if (result.outcome !== "written") continue;
      log.warn(
        { key, ...(forced ?? { state: "auto" }) },
        forced === undefined ? "dependency is left to its breaker again" : "dependency is held by an operator",
      );
      this.#adopt({ name: nameOf(key), revision: result.revision, body: JSON.stringify(next) });
      return;
    }
    throw new Error(`five others changed dependency ${key} at the same time`);
  }

  // --- the documents --------------------------------------------------------------------------------------------

  #toWrite(nowMs: EpochMs): Watched[] {
    const found: Watched[] = [];
    for (const watched of this.#stirred) {
      if (found.length === writesMax) break;
      this.#stirred.delete(watched);
      if (watched.hasSomethingToSay(nowMs, this.#options.members().length)) found.push(watched);
    }
    for (const watched of this.#keys.values()) {
      if (found.length >= writesMax) break;
      const { shared } = watched;
      if (shared === undefined || found.includes(watched)) continue;
      const isTime = shared.forced === undefined && nextChangeMs(shared.breaker) <= nowMs && watched.isReported(nowMs);
      const isForceOver = shared.forced !== undefined && shared.forced.untilMs <= nowMs;
      if (isTime || isForceOver || watched.isDone(nowMs)) found.push(watched);
    }
    return found;
  }

  async #write(watched: Watched, nowMs: EpochMs): Promise<void> {
    const { documents, node, members, log } = this.#options;
    const { key } = watched;
    if (watched.isDone(nowMs)) {
      await documents.remove(kind, nameOf(key), watched.revision);
      watched.drop(nowMs);
      return;
    }
    if (watched.shared === undefined) watched.joinWindow();
    const part = watched.takePart(node);
    // Closed since now: what is parked for one that was well all along comes out by a ramp too.
    const own = watched.own.phase === "closed" ? closedBreaker(nowMs) : watched.own;
    let before = watched.shared ?? newShared(key, own, part);
    let { revision } = watched;
    for (let attempt = 0; attempt < triesMax; attempt++) {
      const next = contribute(before, part, members(), nowMs);
      // Even when the documents are away: it is what we know best.
      watched.shared = next;
      const result = await documents.write(kind, nameOf(key), JSON.stringify(next), revision);
      if (result.outcome === "written") {
        watched.revision = result.revision;
        if (next.breaker.phase !== before.breaker.phase) {
          log.warn(
            { key, from: before.breaker.phase, to: next.breaker.phase, workers: workersOf(next) },
            "dependency changed",
          );
        }
        return;
      }
      before = (result.current && sharedIn(result.current)) ?? newShared(key, own, part);
      revision = result.current?.revision ?? 0;
      watched.shared = before;
      watched.revision = revision;
    }
  }

  /** One page each time: a thousand documents are news to the others within half a second, ten thousand within five. */
  async #readOthers(): Promise<void> {
    const { listMax } = documentLimits;
    const after = this.#listedUntil;
    const page = await this.#options.documents.list(kind, { after, limit: listMax });
    const isLast = page.length < listMax;
    const until = isLast ? undefined : page.at(-1)!.name;
    this.#listedUntil = until ?? "";
    const names = new Set(page.map(({ name }) => name));
    for (const watched of this.#keys.values()) {
      if (watched.revision === 0 || names.has(watched.name)) continue;
      if (watched.name <= after || (until !== undefined && watched.name > until)) continue;
      watched.drop(this.#options.clock.nowMs());
    }
    for (const document of page) this.#adopt(document);
  }

  #adopt(document: StoredDocument): void {
    const nowMs = this.#options.clock.nowMs();
    const shared = sharedIn(document);
    if (shared === undefined) return;
    const watched = this.#watch(shared.key, nowMs);
    if (watched === undefined || watched.revision >= document.revision) return;
    // What our own workers met before there was a document belongs to it as well.
    if (watched.revision === 0) watched.joinWindow();
    watched.shared = shared;
    watched.revision = document.revision;
  }

  #watch(key: string, nowMs: EpochMs): Watched | undefined {
    let watched = this.#keys.get(key);
    if (watched === undefined && this.#keys.size < keysMax) {
      watched = new Watched(key, nameOf(key), nowMs);
      this.#keys.set(key, watched);
    }
    return watched;
  }

  // --- shares ---------------------------------------------------------------------------------------------------

  #viewFor(watched: Watched, worker: string, nowMs: EpochMs): DependencyView {
    const { key, shared } = watched;
    const budget = shared?.budget ?? watched.budget;
    const elsewhere = shared === undefined ? undefined : { ...shared.nodes };
    if (elsewhere !== undefined) delete elsewhere[this.#options.node];
    // Without a document nobody knows of the others' workers; they are taken to be as many as ours at each process.
    const workers =
      elsewhere === undefined
        ? watched.workerCount * Math.max(1, this.#options.members().length)
        : watched.workerCount + sumOf(elsewhere, (share) => share.workers);
    const callsPerSec = watched.callsPerSec + (elsewhere === undefined ? 0 : sumOf(elsewhere, (o) => o.callsPerSec));
    // Half by head and half by what each calls: who gets more messages needs more, who gets none yet needs some.
    const byHead = 1 / Math.max(1, workers);
    const part = callsPerSec > 0 ? (byHead + watched.callsPerSecOf(worker) / callsPerSec) / 2 : byHead;
    const view: DependencyView = {
      key,
      state: phaseIn(watched, nowMs),
      retriesPerSec: (budget?.minPerSec ?? defaultBudget.minPerSec) * byHead,
      retryPercent: budget?.percent ?? defaultBudget.percent,
    };
    if (shared === undefined || view.state === "closed")
      return isForced(shared, nowMs) ? { ...view, forced: true } : view;
    const terms = shared.terms ?? defaultBreaker;
    const allowed = view.state === "open" ? 0 : (allowedPerSec(shared.breaker, terms) ?? 0);
    view.callsPerSec =
      view.state === "probing" ? probesFor(worker, shared, workers, byHead) : Math.round(allowed * part * 100) / 100;
    if (isForced(shared, nowMs)) view.forced = true;
    return view;
  }
}

/** Fewer probes than workers: chance, the same for all that ask, picks who may probe in this round. */
const probesFor = (worker: string, { breaker, terms }: SharedBreaker, workers: number, byHead: number): number => {
  const { probes, probeEveryMs } = terms ?? defaultBreaker;
  const rounds = probeEveryMs / 1_000;
  if (workers <= probes) return (probes * byHead) / rounds;
  const chance = createHash("sha1").update(`${worker} ${breaker.sinceMs}`).digest().readUInt32BE(0) / 2 ** 32;
  // Twice as many as needed, since not everybody who may has a message.
  return chance < (2 * probes) / workers ? 1 / rounds : 0;
};

const phaseIn = (watched: Watched | undefined, nowMs: number): BreakerPhase =>
  watched?.shared === undefined ? "closed" : phaseOf(watched.shared, nowMs);

const isForced = (shared: SharedBreaker | undefined, nowMs: number): boolean =>
  shared?.forced !== undefined && shared.forced.untilMs > nowMs;

const unwatchedView = ({ key, budget }: DependencyReport): DependencyView => ({
  key,
  state: "closed",
  retriesPerSec: budget?.minPerSec ?? defaultBudget.minPerSec,
  retryPercent: budget?.percent ?? defaultBudget.percent,
});

const unknownPart = (node: string) => ({
  node,
  share: { workers: 0, callsPerSec: 0, failedPerSec: 0, freshPerSec: 0 },
  calls: { succeeded: 0, failed: 0 },
  window: [],
  ...readTerms({}),
  reportedAtMs: 0,
  parkedAtMs: 0,
});

/** A key may be any text, a document's name may not. */
const nameOf = (key: string): string =>
  documentLimits.namePattern.test(key) && !key.startsWith("~")
    ? key
    : `~${createHash("sha256").update(key).digest("base64url")}`;

/** Undefined for what a newer version may have written. */
const sharedIn = ({ body }: StoredDocument): SharedBreaker | undefined => {
  const shared = JSON.parse(body) as SharedBreaker;
  return typeof shared.key === "string" && shared.breaker !== undefined ? shared : undefined;
};
