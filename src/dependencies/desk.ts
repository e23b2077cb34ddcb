import { EscapementError } from "../message/errors.ts";
import { type EpochMs, epochMs, formatInstant } from "../message/time.ts";
import type { Policies } from "../policies/policies.port.ts";
import { allowedPerSec } from "../retry/breaker.ts";
import type { Clock } from "../runtime/clock.ts";
import type { ConsumerSyncReply, ConsumerSyncRequest } from "../wire/consumer-sync.ts";
import type { DependencyDetails, DependencyPage } from "../wire/dependencies.ts";
import { readForce, readSync } from "./admit-sync.ts";
import type { DependencyBoard } from "./board.ts";
import type { Dependencies, RedriveNews } from "./dependencies.port.ts";
import type { LaneHeads } from "./lane-heads.ts";
import type { ParkedCount } from "./parked-count.ts";
import { isDependencyKey } from "./parking.port.ts";
import { phaseOf, sumOf } from "./shared-breaker.ts";
import type { Watched } from "./watched.ts";

/** The use cases of dependencies in the words of the HTTP contract: what consumers sync, what people ask and force. */
export type DeskOptions = {
  readonly board: DependencyBoard;
  readonly parked: ParkedCount;
  readonly clock: Clock;
  readonly policies: Policies;
  readonly redriveNews?: RedriveNews;
  readonly laneHeads?: LaneHeads;
};

export class DependencyDesk implements Dependencies {
  readonly #options: DeskOptions;

  constructor(options: DeskOptions) {
    this.#options = options;
  }

  async sync(input: unknown): Promise<ConsumerSyncReply> {
    const { board, redriveNews, laneHeads } = this.#options;
    const request = readSync(input);
    const dependencies = board.sync(`${request.group}/${request.worker}`, request.dependencies);
    if (request.redriven !== undefined && request.redriven.length > 0) await redriveNews?.outcomes(request.redriven);
    // Without an answer the consumer goes by what the broker counts; all the rest holds.
    const heads =
      request.heads === undefined
        ? undefined
        : await laneHeads?.take(request.group, request.heads).catch(() => undefined);
    return {
      ...(await this.#policiesFor(request)),
      dependencies,
      ...(heads === undefined ? undefined : { heads }),
    };
  }

  async #policiesFor(request: ConsumerSyncRequest): Promise<Omit<ConsumerSyncReply, "dependencies">> {
    const { policies } = this.#options;
    const { group, topics, policy, policiesTag, versionsWanted } = request;
    const bound = policy === undefined ? policies.boundTo(group, topics) : await policies.named(policy);
    return {
      ...(bound.tag === policiesTag ? undefined : { policies: bound }),
      ...(versionsWanted === undefined ? undefined : { versions: await policies.asDecided(versionsWanted) }),
    };
  }

  async list(cursor: string | undefined, limit: number): Promise<DependencyPage> {
    const known = this.#options.board.known(cursor ?? "", limit);
    const items = await Promise.all(known.map(({ key, watched }) => this.#details(key, watched)));
    return known.length < limit ? { items } : { items, cursor: known.at(-1)!.key };
  }

  async show(key: string): Promise<DependencyDetails> {
    const watched = await this.#options.board.look(checkedKey(key));
    const details = await this.#details(key, watched);
    if (watched !== undefined || details.parked > 0) return details;
    throw new EscapementError("not_found", "No consumer reports this dependency, and nothing is parked for it.");
  }

  async force(key: string, input: unknown): Promise<DependencyDetails> {
    const nowMs = this.#options.clock.nowMs();
    await this.#options.board.force(checkedKey(key), readForce(input, nowMs));
    return this.show(key);
  }

  async #details(key: string, watched: Watched | undefined): Promise<DependencyDetails> {
    const { board, parked, clock } = this.#options;
    const nowMs = clock.nowMs();
    const shared = watched?.shared;
    const terms = shared === undefined ? (watched?.terms ?? null) : shared.terms;
    const budget = shared === undefined ? (watched?.budget ?? null) : shared.budget;
    const judged = { parked: await parked.of(key), breaker: terms && { ...terms }, budget: budget && { ...budget } };
    if (shared === undefined) {
      const { workerCount = 0, callsPerSec = 0, failedPerSec = 0 } = watched ?? {};
      const rates = { callsPerSec: shown(callsPerSec), failedPerSec: shown(failedPerSec) };
      return { key, state: "closed", workers: workerCount, ...rates, ...judged };
    }
    const { breaker, forced } = shared;
    const nodes = board.sharesOf(watched!);
    const isForced = forced !== undefined && forced.untilMs > nowMs;
    const state = phaseOf(shared, nowMs);
    const allowed = isForced && forced.state === "open" ? 0 : terms && allowedPerSec(breaker, terms);
    return {
      key,
      state,
      since: instant(isForced ? forced.sinceMs : breaker.sinceMs),
      ...(isForced
        ? {
            forced: {
              state: forced.state,
              since: instant(forced.sinceMs),
              until: instant(forced.untilMs),
              reason: forced.reason,
            },
          }
        : undefined),
      workers: sumOf(nodes, (share) => share.workers),
      callsPerSec: shown(sumOf(nodes, (share) => share.callsPerSec)),
      failedPerSec: shown(sumOf(nodes, (share) => share.failedPerSec)),
      ...(allowed === undefined || allowed === null ? undefined : { allowedPerSec: shown(allowed) }),
      ...(state === "open" && !isForced ? { probesAt: instant(breaker.probeAtMs) } : undefined),
      ...judged,
    };
  }
}

const checkedKey = (key: string): string => {
  if (isDependencyKey(key)) return key;
  throw new EscapementError("invalid_field", "A key has 1 to 128 characters and no control characters.", {
    field: "key",
  });
};

const instant = (atMs: number): string => formatInstant(epochMs(Math.round(atMs)) as EpochMs);
const shown = (perSec: number): number => Math.round(perSec * 10) / 10;
