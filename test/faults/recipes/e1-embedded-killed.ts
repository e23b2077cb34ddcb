import { setTimeout as pause } from "node:timers/promises";
import type { Failpoint } from "../../../src/runtime/failpoint.ts";
import { BrokerUsers } from "../broker-users.ts";
import { eventually, type Lab } from "../lab.ts";
import type { Recipe, RecipeOutcome } from "../recipe.ts";
import { type Day, standardDay } from "../standard-day.ts";

/**
 * The embedded server, with its own store and broker, under two loads at once: what the delay server is asked for and
 * witnessed on its topics, and programs that use the broker directly. What breaks it is a recipe's `strike`.
 */
export const embeddedDay = async (
  lab: Lab,
  day: Omit<Day, "strike"> & { readonly strike: (lab: Lab, users: BrokerUsers) => Promise<void> },
): Promise<RecipeOutcome> => {
  let users: BrokerUsers | undefined;
  try {
    const outcome = await standardDay(lab, {
      // Killed with received ingest messages in its hands; they come again after 30 s.
      leavesIngestWaiting: true,
      strikeBetween: [0.002, 0.005],
      endsWithStrike: true,
      ...day,
      load: { messages: messagesMax, ratePerSecond: loadPerSecond, delayMs: [0, 4_000], ...day.load },
      async strike() {
        users = await BrokerUsers.start(lab);
        await pause(settlingMs);
        await day.strike(lab, users);
        await pause(settlingMs);
      },
    });
    const { failures, notes } = await users!.finish();
    return { ...outcome, failures: [...outcome.failures, ...failures], notes: { ...outcome.notes, ...notes } };
  } finally {
    await users?.stop();
  }
};

/** The machine is shared by the server, the load and all the clients. */
const loadPerSecond = 150;
/** More than ever goes out while the trouble lasts. */
const messagesMax = 100_000;
const settlingMs = 1_000;

/** Second copies of what was sent just before a kill and not yet recorded: a backlog goes out in large groups. */
const allowD2 = (lab: Lab, kills: number, recordedWithinMs: number): void => {
  const nowMs = Date.now();
  lab.allow({ name: "D2", fromMs: nowMs - recordedWithinMs, untilMs: nowMs + 100, duplicatesMax: 512 * kills });
};

/** @param recordedWithinMs how long a send may wait for being recorded; on a slow disk for several syncs. */
export const killed = (lab: Lab, users: BrokerUsers, kills: number, recordedWithinMs = 1_000): void => {
  users.killed();
  allowD2(lab, kills, recordedWithinMs);
};

/** Points that are come to at once under this load, so that every other round or so may end at one of them. */
const frequentPoints: readonly Failpoint[] = [
  "log-written",
  "log-synced",
  "popped",
  "done-in-memory",
  "done-on-disk",
  "schedule-stored",
  "sent",
];
const frequentMs = 15_000;

export const e1: Recipe = {
  name: "E1",
  title: "the embedded server is killed again and again, at random moments and at some named points",
  expects:
    "nothing stored is lost, nothing acknowledged comes again, groups stay in order, nothing early, cancel means cancel",
  embedded: true,
  run(lab) {
    const rounds = lab.options.size === "long" ? 100 : 5;
    return embeddedDay(lab, {
      async strike(_, users) {
        lab.faultBegins(`${rounds} times kill -9`);
        let server = lab.running[0]!;
        for (let round = 1; round <= rounds; round++) {
          // A server that was told to die at a point has perhaps done so already.
          if (!server.expectsToEnd) {
            await pause(lab.random.between(200, 1_500));
            killed(lab, users, rounds);
            await server.kill();
          } else if (!(await eventually(frequentMs, () => !server.runs))) {
            throw new Error(`the server did not come to its point in ${frequentMs} ms`);
          }
          await pause(lab.random.between(0, 300));
          const point = frequentPoints[lab.random.between(0, 2 * frequentPoints.length - 1)];
          if (point === undefined || round === rounds) {
            server = await lab.server(`a${round}`);
            continue;
          }
          const environment = { ESC_FAILPOINT: `${point}:${lab.random.between(1, 60)}` };
          server = await lab.server(`a${round}`, environment, { preload: ["failpoint.ts"], ready: false });
          server.expectsToEnd = true;
          void server.ended.then(() => killed(lab, users, rounds));
        }
        lab.faultEnds("it lives");
      },
    });
  },
};

/** Which time of reaching it is fatal, drawn from 1 to this. */
const points: readonly (readonly [point: Failpoint, nthMax: number])[] = [
  ["log-written", 200],
  ["log-synced", 200],
  ["popped", 100],
  ["done-in-memory", 100],
  ["done-on-disk", 100],
  ["buried", 2],
  ["half-stored", 10],
  ["committed", 8],
  ["snapshot-told", 1],
  ["queues-flushed", 1],
  ["draft-written", 2],
  ["schedule-stored", 60],
  ["before-reply", 100],
  ["loaded", 10],
  ["claimed", 60],
  ["sent", 60],
  ["before-settle", 60],
  ["settled", 60],
  ["taking", 4],
];

const toThePointMs = 25_000;
const shortPoints = 4;

export const e2: Recipe = {
  name: "E2",
  title: "the embedded server is killed exactly at named points of its store, log, delivery and transactions",
  expects: "as E1",
  embedded: true,
  run(lab) {
    const isLong = lab.options.size === "long";
    const drawn = isLong
      ? [...points, ...points]
      : Array.from({ length: shortPoints }, () => points[lab.random.between(0, points.length - 1)]!);
    return embeddedDay(lab, {
      async strike(_, users) {
        lab.faultBegins("killed at named points");
        await lab.running[0]!.stop();
        for (const [i, [point, nthMax]] of drawn.entries()) {
          const nth = lab.random.between(1, nthMax);
          lab.options.say(`  until it comes to "${point}", time ${nth}`);
          const environment = { ESC_FAILPOINT: `${point}:${nth}` };
          const server = await lab.server(`b${i}`, environment, { preload: ["failpoint.ts"], ready: false });
          server.expectsToEnd = true;
          void server.ended.then(() => killed(lab, users, drawn.length));
          if (!(await eventually(toThePointMs, () => !server.runs)))
            throw new Error(`the server never came to "${point}" for time ${nth}`);
          if (server.ending?.signal !== "SIGKILL")
            throw new Error(`the server ended with ${JSON.stringify(server.ending)}, not at ${point}`);
        }
        await lab.server("last");
        lab.faultEnds("it lives");
      },
    });
  },
};

export const e3: Recipe = {
  name: "E3",
  title: "the embedded server is stopped with SIGTERM under load and started again, several times",
  expects: "not one second copy, nothing lost, each stop within 5 s and with exit code 0",
  embedded: true,
  async run(lab) {
    const rounds = lab.options.size === "long" ? 10 : 2;
    const said: string[] = [];
    const took: number[] = [];
    const outcome = await embeddedDay(lab, {
      async strike() {
        lab.faultBegins("SIGTERM again and again");
        for (let round = 1; round <= rounds; round++) {
          await pause(lab.random.between(500, 2_000));
          const { code, tookMs } = await lab.running[0]!.stop();
          took.push(tookMs);
          if (code !== 0) said.push(`it stopped with exit code ${code}, 0 expected`);
          if (tookMs > stopMaxMs) said.push(`it took ${tookMs} ms to stop, at most ${stopMaxMs} allowed`);
          await lab.server(`a${round}`);
        }
        lab.faultEnds("it lives");
      },
    });
    const notes = { ...outcome.notes, stopMs: Math.max(...took) };
    return { ...outcome, failures: [...outcome.failures, ...said], notes };
  },
};

const stopMaxMs = 5_000;
