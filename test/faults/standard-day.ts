import { setTimeout as pause } from "node:timers/promises";
import type { MessageDetails } from "../../src/wire/http.ts";
import { eventually, type Lab } from "./lab.ts";
import { Load } from "./load.ts";
import { type LoadOptions, type PlannedMessage, planLoad, usualLoad } from "./load-plan.ts";
import type { RecipeOutcome } from "./recipe.ts";
import { openTopicDoor, type TopicDoor } from "./topic-door.ts";
import { judge, missing, type Story, storiesOf } from "./verdict.ts";

/**
 * The day that most recipes share: servers run, load comes in, something breaks in the middle of it, heals, and when
 * all is quiet the ledger is judged and the servers are asked whether their books agree with it.
 */
export type Day = {
  readonly load?: Partial<LoadOptions>;
  /** Names of the servers that start the day; the environment of each. */
  readonly servers?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly preload?: readonly string[];
  /** At which share of the load's messages the fault begins; drawn between the two. */
  readonly strikeBetween?: readonly [earliest: number, latest: number];
  /** Breaks something, and lets it heal. Called in the middle of the load. */
  readonly strike: (lab: Lab, load: Load) => Promise<void>;
  /** The load goes on until the trouble is over, and no longer. */
  readonly endsWithStrike?: boolean;
  /** All messages are due together, so long after the load begins. */
  readonly allDueAfterMs?: number;
  /** Alters what is sent, after the seed has decided it. */
  readonly alter?: (message: PlannedMessage) => PlannedMessage;
  /**
   * A server is killed with received ingest messages in its hands: RocketMQ gives them out again after 30 s. The long
   * form waits for that; the short one leaves that door closed.
   */
  readonly leavesIngestWaiting?: boolean;
  /** False where a server's clock is shifted. */
  readonly bornIsTrue?: boolean;
  /** How long after the load's last due time everything must have arrived. */
  readonly quietWithinMs?: number;
  /** How long to listen for second copies that come late. */
  readonly listenMs?: number;
  /** Ending with dead messages is right for so many. */
  readonly dead?: number;
  /** Memory of any server, in MB: a queue without a limit shows here. */
  readonly rssMaxMb?: number;
  /** The run is void unless so many messages were under way in the fault. */
  readonly inFaultMin?: number;
  /** Liveness: what was due when the fault healed has arrived so long after. Loose, machines are shared. */
  readonly recoveryMaxMs?: number;
};

/** Two copies of a whole day's load fit into this; what holds more has kept something. */
const rssMaxMbDefault = 700;

export const standardDay = async (lab: Lab, day: Day): Promise<RecipeOutcome> => {
  const { size, seed, recipe } = lab.options;
  const scale: Partial<LoadOptions> =
    size === "long" ? { messages: 10_500, ratePerSecond: 1_500, delayMs: [0, 15_000] } : {};
  const options: LoadOptions = { ...usualLoad, ...scale, ...day.load };
  const topicDoor = day.leavesIngestWaiting === true && size === "short" ? 0 : options.shares.topicDoor;
  const failures: string[] = [];
  if (!lab.isEmbedded) await lab.redis();
  const preload = day.preload ?? [];
  const starting = Object.entries(day.servers ?? (lab.isEmbedded ? { a: {} } : { a: {}, b: {} }));
  await Promise.all(starting.map(([name, environment]) => lab.server(name, environment, { preload })));
  // Recipes pick servers by their place, so the order must not depend on who was faster.
  lab.servers.sort((one, other) => (one.name < other.name ? -1 : 1));
  if (lab.isEmbedded) await lab.watch();
  let door: TopicDoor | undefined;
  if (topicDoor > 0) door = await openTopicDoor(lab.endpoint, lab.topics.ingest);
  const planned = planLoad(
    { ...options, shares: { ...options.shares, topicDoor } },
    lab.random.fork(),
    `${recipe}-${seed}`,
  );
  const plan = day.alter === undefined ? planned : planned.map(day.alter);
  const { http, ledger, later, topics, ports } = lab;
  const load = new Load({ http, door, ledger, later, random: lab.random.fork(), topics, ports });
  const [earliest, latest] = day.strikeBetween ?? [0.35, 0.65];
  const strikeAt = Math.floor(plan.length * (earliest + (latest - earliest) * lab.random.float()));
  try {
    const allDueMs = day.allDueAfterMs === undefined ? undefined : Date.now() + day.allDueAfterMs;
    const loading = load.run(plan, options.ratePerSecond, allDueMs);
    const striking = (async () => {
      await eventually(60_000, () => load.begun >= strikeAt);
      await day.strike(lab, load);
      if (day.endsWithStrike === true) load.enough();
    })();
    await Promise.all([loading, striking]);
    await quiet(lab, options.delayMs[1] + (day.quietWithinMs ?? 45_000));
    await pause(day.listenMs ?? 1_500);
    failures.push(...(await booksAgree(lab, day.dead ?? 0)));
  } finally {
    await door?.close();
  }
  return conclude(lab, day, failures);
};

/** Waits until every accepted message has been seen; says nothing if it does not happen, the judges will. */
export const quiet = async (lab: Lab, withinMs: number): Promise<void> => {
  await eventually(withinMs, async () => {
    await pause(200);
    lab.later.flush();
    return missing(storiesOf(lab.ledger.entries)).length === 0;
  });
};

/** Of each kind; the ledger has them all. */
const shownPerInvariant = 4;

export const conclude = (lab: Lab, day: Omit<Day, "strike">, failures: string[]): RecipeOutcome => {
  lab.later.flush();
  const verdict = judge(lab.ledger.entries, {
    windows: lab.windows,
    bornIsTrue: day.bornIsTrue ?? true,
    fault: lab.fault,
    clockAhead: lab.clockAhead,
  });
  const byInvariant = Map.groupBy(verdict.findings, ({ invariant }) => invariant);
  for (const [invariant, findings] of byInvariant) {
    for (const { serial, text } of findings.slice(0, shownPerInvariant)) {
      failures.push(`${invariant}: ${serial === undefined ? "" : `message ${serial}: `}${text}${linesOf(lab, serial)}`);
    }
    const more = findings.length - shownPerInvariant;
    if (more > 0) failures.push(`${invariant}: ${more} more of these`);
  }
  const least = day.inFaultMin ?? 1;
  if (verdict.inFault < least)
    failures.push(`void: ${verdict.inFault} messages were under way in the fault, ${least} needed`);
  if (lab.strangers > 0) failures.push(`${lab.strangers} messages arrived that nobody sent`);
  const recoveryMaxMs = day.recoveryMaxMs ?? 30_000;
  if (verdict.recoveryMs > recoveryMaxMs) {
    failures.push(
      `I13 alive after the fault: the backlog took ${verdict.recoveryMs} ms, at most ${recoveryMaxMs} allowed`,
    );
  }
  const rssMaxMb = Math.max(0, ...lab.servers.map((server) => server.rssMaxMb));
  const limit = day.rssMaxMb ?? rssMaxMbDefault;
  if (rssMaxMb > limit) failures.push(`I15 bounded: a server held ${rssMaxMb} MB, at most ${limit} allowed`);
  failures.push(...unexpectedEndings(lab));
  return { verdict, failures, notes: { rssMaxMb } };
};

/** Crashes that nobody ordered, and bugs that a server itself reported. */
export const unexpectedEndings = (lab: Lab): string[] =>
  lab.servers.flatMap((server) => {
    const said: string[] = [];
    const { ending } = server;
    if (ending !== undefined && !server.expectsToEnd) {
      said.push(
        `server ${server.name} ended by itself (${JSON.stringify(ending)}); ${server.logFile} says:\n${server.lastLines(4)}`,
      );
    }
    if (/"msg":"bug:/.test(server.logText())) said.push(`server ${server.name} reports a bug; see ${server.logFile}`);
    return said;
  });

/** Everything the ledger knows of the offending message, so that a failure can be read without the machine it ran on. */
const linesOf = (lab: Lab, serial: number | undefined): string =>
  serial === undefined
    ? ""
    : lab.ledger.entries
        .filter((entry) => "serial" in entry && entry.serial === serial)
        .map((entry) => `\n      ${JSON.stringify(entry)}`)
        .join("");

/**
 * I11: the servers' own books. Nothing waits or is out any more, and every id that was ever accepted is in the state
 * that the ledger says it must be in.
 */
export const booksAgree = async (lab: Lab, dead: number): Promise<string[]> => {
  const said: string[] = [];
  const [server] = lab.running;
  if (server === undefined) return ["I11 conservation: no server runs that could be asked"];
  await eventually(5_000, async () => {
    const stats = await server.stats();
    return stats !== undefined && stats.waiting.total === 0 && stats.claimed === 0;
  });
  const stats = await server.stats();
  if (stats === undefined) return [`I11 conservation: server ${server.name} does not answer`];
  if (stats.waiting.total !== 0) said.push(`I11 conservation: ${stats.waiting.total} messages still wait, 0 expected`);
  if (stats.claimed !== 0) said.push(`I11 conservation: ${stats.claimed} messages are still out, 0 expected`);
  if (stats.dead !== dead) said.push(`I11 conservation: ${stats.dead} messages are dead, ${dead} expected`);
  const unowned = stats.shards.filter(({ owner }) => owner === undefined).length;
  if (unowned > 0) said.push(`I13 alive: ${unowned} shards have no owner`);
  lab.later.flush();
  const known = [...storiesOf(lab.ledger.entries).values()].filter(({ accepted }) => accepted?.id !== undefined);
  const wrong: string[] = [];
  for (let from = 0; from < known.length; from += 50) {
    await Promise.all(
      known.slice(from, from + 50).map(async (story) => {
        const { id } = story.accepted!;
        const result = await lab.http.call(server.port, "GET", `/v1/messages/${id}`);
        const state = result.end === "answer" ? (result.body as Partial<MessageDetails>).state : undefined;
        if (!statesOf(story).includes(state ?? "")) {
          wrong.push(
            `I11 conservation: message ${story.intent.serial} (${id}) is ${state ?? JSON.stringify(result)}, expected ${statesOf(story).join(" or ")}`,
          );
        }
      }),
    );
  }
  if (wrong.length > 10) return [...said, ...wrong.slice(0, 10), `… and ${wrong.length - 10} more in a wrong state`];
  return [...said, ...wrong];
};

const statesOf = ({ change, changed, copies }: Story): string[] => {
  if (change?.verb === "cancel" && changed?.outcome === "done") return ["canceled"];
  // A cancel without an answer may have taken effect on what a crash had sent and not recorded.
  if (copies.length > 0) return changed?.outcome === "unknown" ? ["delivered", "canceled"] : ["delivered"];
  return ["canceled", "delivered", "dead", "expired"];
};
