import type { DelayStore } from "../delay/delay-store.port.ts";
import type { DocumentStore } from "../documents/document-store.port.ts";
import { EscapementError } from "../message/errors.ts";
import { shardOf } from "../message/id.ts";
import { epochMs } from "../message/time.ts";
import { JsonReader } from "../retry/json-reader.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";
import type {
  DeadAudit,
  DeadDetails,
  DeadGroupsReply,
  DeadList,
  DiscardReply,
  RedriveDryRunReply,
  RedriveList,
  RedriveOutcomes,
  RedriveReply,
} from "../wire/dead.ts";
import { beginAudit, readAudit } from "./audit.ts";
import type { DeadUseCases, Query } from "./dead.port.ts";
import type { DeadMessage } from "./dead-message.ts";
import { filterOfQuery, readFilter, readId } from "./filter.ts";
import { DeadGroups } from "./groups.ts";
import { decodePortion, type OutcomeCode, outcomeCodes } from "./portion.ts";
import { changeJob, kinds, openJob, parseJob, readJob } from "./redrive-documents.ts";
import { type Command, commanded, newJob, type RedriveJob } from "./redrive-job.ts";
import { readRedrive, readWho } from "./redrive-plan.ts";
import { revivalOf } from "./revival.ts";
import { cursorText, ofTenant, type Piece, readCursor, scanDead } from "./scan.ts";
import { detailsOf, filterInputOf, groupReplyOf, redriveReplyOf } from "./wording.ts";

/**
 * What people ask and command about the dead. It changes documents and discards; bringing back is the work of the
 * process that owns the job (redrive-run.ts).
 */
export type DeadRoomOptions = {
  readonly store: DelayStore;
  readonly documents: DocumentStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly ownTopics: ReadonlySet<string>;
  /** Discarded by people: counted. */
  readonly discarded: (count: number) => void;
  /** There is a job to look at. */
  readonly wake: () => void;
};

/** A group's messages need not be gathered; this many are looked at between two looks at the limits. */
const groupsPage = 500;
const discardsMax = 200;
const sampleMax = 5;
/** A dry run may take some seconds, because its count is what a person decides by. */
const dryRunPieces = 20;
const jobIdLength = 12;

export class DeadRoom implements DeadUseCases {
  readonly #options: DeadRoomOptions;

  constructor(options: DeadRoomOptions) {
    this.#options = options;
  }

  async list({ cursor, ...query }: Query, limit: number, tenant: string): Promise<DeadList> {
    const { store, clock } = this.#options;
    const filter = filterOfQuery(query);
    const piece = await scanDead(store, tenant, filter, readCursor(cursor, store.shardCount), limit, clock.nowMs());
    return { items: piece.dead.map((dead) => detailsOf(dead, false)), ...lookedOf(piece) };
  }

  async groups({ cursor, ...query }: Query, tenant: string): Promise<DeadGroupsReply> {
    const { store, clock } = this.#options;
    const groups = new DeadGroups();
    const add = (dead: DeadMessage): boolean => {
      groups.add(dead);
      return false;
    };
    const place = readCursor(cursor, store.shardCount);
    const piece = await scanDead(store, tenant, filterOfQuery(query), place, groupsPage, clock.nowMs(), add);
    return { groups: groups.largestFirst.map(groupReplyOf), untold: groups.untold, ...lookedOf(piece) };
  }

  async show(id: string, withBody: boolean, tenant: string): Promise<DeadDetails> {
    const { store, clock } = this.#options;
    const known = readId(id);
    const [stored] = await store.get(shardOf(known, store.shardCount), [known], clock.nowMs());
    const dead = stored?.state === "dead" ? ofTenant(stored, tenant) : undefined;
    if (dead !== undefined) return detailsOf(dead, withBody);
    const detail =
      stored === undefined || (stored.message !== undefined && stored.message.tenant !== tenant)
        ? "no dead message with this id"
        : `the message is ${stored.state}, not dead; GET /v1/messages/${known} has it`;
    throw new EscapementError("not_found", detail);
  }

  /** One bounded piece; who wants them all goes on with the cursor. */
  async discard(request: unknown, tenant: string): Promise<DiscardReply> {
    const { store, documents, clock, random } = this.#options;
    const reader = new JsonReader();
    const given = reader.object(request, "request", ["filter", "reason", "by", "dryRun", "cursor"]);
    assertFilter(given.filter);
    if (given.cursor !== undefined && typeof given.cursor !== "string") reader.refuse("cursor", "must be a text");
    if (given.dryRun !== undefined && typeof given.dryRun !== "boolean")
      reader.refuse("dryRun", "must be true or false");
    const asked = readFilter(given.filter, reader, "filter");
    const who = readWho(given, reader, given.dryRun === true);
    reader.finish();
    const nowMs = clock.nowMs();
    // What dies while this goes on was not meant.
    const filter = { ...asked, until: epochMs(Math.min(asked.until ?? Number.MAX_SAFE_INTEGER, nowMs + 1)) };
    const place = readCursor(given.cursor as string | undefined, store.shardCount);
    if (given.dryRun === true) {
      const { count, ...looked } = await this.#count(filter, place, tenant);
      return { matched: count, discarded: 0, ...looked };
    }
    const finishAudit = await beginAudit(documents, random, nowMs, {
      action: "discard",
      ...who,
      what: JSON.stringify(filterInputOf(asked)),
    });
    let [matched, discarded, scanned] = [0, 0, 0];
    let next: Piece["next"] = place;
    try {
      while (next !== undefined && matched < discardsMax * piecesMax && scanned < scannedMax) {
        const piece: Piece = await scanDead(store, tenant, filter, next, discardsMax, nowMs);
        const byShard = Map.groupBy(piece.dead, ({ id }) => shardOf(id, store.shardCount));
        for (const [shard, deaths] of byShard) {
          const removed = await store.discard(shard, deaths, clock.nowMs());
          discarded += removed.filter(Boolean).length;
        }
        matched += piece.dead.length;
        scanned += piece.scanned;
        next = piece.next;
      }
    } finally {
      this.#options.discarded(discarded);
      await finishAudit({ count: discarded });
    }
    return { matched, discarded, ...lookedOf({ scanned, next }) };
  }

  async audit(cursor: string | undefined, limit: number): Promise<DeadAudit> {
    return readAudit(this.#options.documents, nameCursor(cursor), limit);
  }

  // --- redrives ------------------------------------------------------------------------------------------------------

  async redrive(request: unknown, tenant: string): Promise<RedriveReply | RedriveDryRunReply> {
    const { store, documents, clock, random, ownTopics, wake } = this.#options;
    const { plan, dryRun, by, reason } = readRedrive(request, ownTopics);
    if (dryRun) return this.#dryRun(plan, tenant);
    const nowMs = clock.nowMs();
    const job = newJob({ id: jobId(nowMs, random), tenant, by, reason, plan }, store.shardCount, nowMs);
    await beginAudit(documents, random, nowMs, {
      action: "redrive",
      by,
      reason,
      what: JSON.stringify({
        filter: filterInputOf(plan.filter),
        ...(plan.edit === undefined ? {} : { edit: plan.edit }),
      }),
      redrive: job.id,
    });
    // First the job: who finds it open finds it there.
    const { outcome } = await documents.write(kinds.job, job.id, JSON.stringify(job), 0);
    if (outcome !== "written") throw new EscapementError("internal", `the id ${job.id} was drawn twice`);
    await openJob(documents, job.id);
    wake();
    return redriveReplyOf(job);
  }

  async #dryRun(plan: RedriveJob["plan"], tenant: string): Promise<RedriveDryRunReply> {
    const { ownTopics, clock } = this.#options;
    const skipped: Record<string, number> = {};
    const sample: DeadDetails[] = [];
    const nowMs = clock.nowMs();
    const { count, scanned, complete } = await this.#count(plan.filter, firstPlace, tenant, (dead) => {
      const revival = revivalOf(dead, plan, "dry.0.0", ownTopics, nowMs, nowMs);
      if ("skip" in revival) {
        skipped[revival.skip] = (skipped[revival.skip] ?? 0) + 1;
        return false;
      }
      if (sample.length < sampleMax) sample.push(detailsOf(dead, false));
      return true;
    });
    return { dryRun: true, matched: count, skipped, scanned, complete, sample };
  }

  /** Counts without gathering, over several pieces. */
  async #count(
    filter: RedriveJob["plan"]["filter"],
    from: NonNullable<Piece["next"]>,
    tenant: string,
    counts: (dead: DeadMessage) => boolean = () => true,
  ): Promise<{ count: number } & ReturnType<typeof lookedOf>> {
    const { store, clock } = this.#options;
    let [count, scanned] = [0, 0];
    let next: Piece["next"] = from;
    const add = (dead: DeadMessage): boolean => {
      if (counts(dead)) count++;
      return false;
    };
    for (let pieces = 0; pieces < dryRunPieces && next !== undefined; pieces++) {
      const piece: Piece = await scanDead(store, tenant, filter, next, groupsPage, clock.nowMs(), add);
      scanned += piece.scanned;
      next = piece.next;
    }
    return { count, ...lookedOf({ scanned, next }) };
  }

  async redrives(cursor: string | undefined, limit: number, tenant: string): Promise<RedriveList> {
    const after = nameCursor(cursor);
    const found = await this.#options.documents.list(kinds.job, { ...(after === undefined ? {} : { after }), limit });
    const items = found.map(({ body }) => parseJob(body)).filter((job) => job.tenant === tenant);
    const page = { items: items.map(redriveReplyOf) };
    return found.length < limit ? page : { ...page, cursor: found.at(-1)!.name };
  }

  async redriveOf(id: string, tenant: string): Promise<RedriveReply> {
    return redriveReplyOf(await this.#job(id, tenant));
  }

  async command(id: string, command: Command, request: unknown, tenant: string): Promise<RedriveReply> {
    const { documents, clock, random, wake } = this.#options;
    const reader = new JsonReader();
    const given = reader.object(request ?? {}, "request", ["by", "reason"]);
    const who = readWho(given, reader, true);
    reader.finish();
    await this.#job(id, tenant);
    await beginAudit(documents, random, clock.nowMs(), { action: command, ...who, what: "", redrive: id });
    const job = await changeJob(documents, id, (before) => {
      const after = commanded(before, command, clock.nowMs());
      if (typeof after === "string") throw new EscapementError("too_late", after);
      return after;
    });
    if (job === undefined) throw notFound(id);
    await openJob(documents, id);
    wake();
    return redriveReplyOf(job);
  }

  async outcomes(id: string, { cursor, outcome }: Query, tenant: string): Promise<RedriveOutcomes> {
    const { documents } = this.#options;
    if (outcome !== undefined && !Object.hasOwn(outcomeCodes, outcome)) {
      const known = Object.keys(outcomeCodes).join(", ");
      throw new EscapementError("invalid_field", `outcome must be one of ${known}.`, { field: "outcome" });
    }
    await this.#job(id, tenant);
    const after = nameCursor(cursor);
    // A portion is at most 2,000 messages; where one outcome is rare, several are looked at.
    const found = await documents.list(kinds.portion, {
      prefix: `${id}/`,
      ...(after === undefined ? {} : { after: `${id}/${after}` }),
      limit: outcome === undefined ? 1 : portionsPerPage,
    });
    const items = found.flatMap(({ body }) => {
      const { portion } = decodePortion(0, body);
      return portion.ids.flatMap((one, i) => {
        const code: OutcomeCode = portion.codes[i]!;
        return outcome === undefined || code === outcome ? [{ id: one, outcome: code }] : [];
      });
    });
    const last = found.at(-1);
    return last === undefined ? { items } : { items, cursor: last.name.slice(id.length + 1) };
  }

  async #job(id: string, tenant: string): Promise<RedriveJob> {
    const kept = /^[a-z0-9]{1,24}$/.test(id) ? await readJob(this.#options.documents, id) : undefined;
    if (kept === undefined || kept.job.tenant !== tenant) throw notFound(id);
    return kept.job;
  }
}

/** Bounds of one discard: some seconds of a store's work. */
const piecesMax = 25;
const scannedMax = 50_000;
const portionsPerPage = 20;

const firstPlace = { shard: 0, cursor: undefined } as const;

const lookedOf = ({ scanned, next }: Pick<Piece, "scanned" | "next">) => ({
  scanned,
  complete: next === undefined,
  ...(next === undefined ? {} : { cursor: cursorText(next) }),
});

const assertFilter = (filter: unknown): void => {
  if (filter !== undefined) return;
  throw new EscapementError("missing_field", "filter says which of the dead are meant; {} means all of them.", {
    field: "filter",
  });
};

/** Cursors that are names of documents. */
const nameCursor = (cursor: string | undefined): string | undefined => {
  if (cursor === undefined || /^[a-z0-9-]{1,64}$/.test(cursor)) return cursor;
  throw new EscapementError("invalid_field", "cursor is not one that this API gave out", { field: "cursor" });
};

const notFound = (id: string): EscapementError =>
  new EscapementError(
    "redrive_not_found",
    `there is no redrive ${JSON.stringify(id.slice(0, 32))}; GET /v1/redrives lists them`,
  );

/** Its beginning is the time, so that jobs list in the order of their beginning; the rest is chance. */
const jobId = (nowMs: number, random: Random): string => {
  const chance = Buffer.from(random.bytes(new Uint8Array(4)));
  return (nowMs.toString(36).padStart(8, "0") + chance.readUInt32BE(0).toString(36).padStart(7, "0")).slice(
    0,
    jobIdLength,
  );
};
