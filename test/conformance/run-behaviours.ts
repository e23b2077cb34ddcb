import { type Behaviour, type Facts, factText, isBrokenPromise } from "./behaviour.ts";
import { allBehaviours } from "./behaviour-table.ts";
import type { Client } from "./client-table.ts";
import { type DriverCommand, DriverProcess, NotOffered } from "./driver-process.ts";
import { ProducerOnStage, Stage } from "./stage.ts";
import type { Target, TargetName } from "./target.ts";
import { TogetherOnce } from "./together.ts";

/**
 * Runs behaviours against one target, for all clients at the same time. Most behaviours mostly wait, and each has
 * topics and groups of its own; so many of them run at once.
 */
export type Result = {
  readonly target: TargetName;
  readonly client: string;
  readonly behaviour: string;
  /** Undefined when the behaviour failed. */
  readonly facts?: Facts;
  readonly failure?: string;
  /** What was wrong at the first try, when this is the second. */
  readonly firstTry?: string;
};

export type PreparedClient = {
  readonly client: Client;
  readonly command: (endpoint: string, options: { tls: boolean }) => DriverCommand;
};

export type RunOptions = {
  readonly target: Target;
  readonly clients: readonly PreparedClient[];
  readonly chosen: (behaviour: Behaviour) => boolean;
  readonly say: (line: string) => void;
};

/** One after the other; in each of them all clients run at the same time. Over TLS it is a short selection. */
const phases = ["first", "over TLS", "restart", "transactions"] as const;

type Participant = {
  readonly name: string;
  readonly start: () => Promise<DriverProcess>;
  readonly behaviours: readonly Behaviour[];
};

export const nameOverTls = (client: Client): string => `${client.name} over TLS`;

/** Behaviours of one client that run at the same time. */
const atOnce = 6;
const senderMaxMs = 30_000;

export const runBehaviours = async ({ target, clients, chosen, say }: RunOptions): Promise<Result[]> => {
  const all = allBehaviours.filter(chosen);
  const results: Result[] = [];
  for (const phase of phases) {
    const runs = clients
      .map(({ client, command }): Participant => {
        const tls = phase === "over TLS";
        return {
          name: tls ? nameOverTls(client) : client.name,
          start: () => DriverProcess.start(command(target.endpoint, { tls })),
          behaviours: all.filter(
            (one) =>
              (one.clients?.includes(client.name) ?? true) &&
              (tls ? client.overTls && one.alsoOverTls === true : (one.phase ?? "first") === phase),
          ),
        };
      })
      .filter(({ behaviours }) => behaviours.length > 0);
    const taking = runs.reduce((count, { behaviours }) => count + behaviours.length, 0);
    const restart = phase === "restart" ? new TogetherOnce(taking, () => target.restart()) : undefined;
    const ended = await Promise.all(runs.map((one) => runParticipant(target, one, restart, say)));
    results.push(...ended.flat());
  }
  return results;
};

const runParticipant = async (
  target: Target,
  { name, start, behaviours }: Participant,
  restart: TogetherOnce | undefined,
  say: (line: string) => void,
): Promise<Result[]> => {
  const driver = await start();
  let shared: Promise<ProducerOnStage> | undefined;
  const startSender = async (): Promise<ProducerOnStage> => {
    await driver.ask("producer", { name: "sender", topics: [] }, senderMaxMs);
    return new ProducerOnStage(driver, "sender");
  };
  const sender = () => {
    shared ??= startSender();
    return shared;
  };
  const play = async (behaviour: Behaviour, firstTry?: string): Promise<Result> => {
    const parts = { target, client: name, driver, another: start, sender };
    const stage = new Stage(restart === undefined ? parts : { ...parts, restart });
    const startedMs = performance.now();
    const seen = await observed(behaviour, stage);
    const seconds = ((performance.now() - startedMs) / 1_000).toFixed(1);
    const again = firstTry === undefined ? "" : ", second try";
    const ending = seen.failure === undefined ? "" : `, failed: ${seen.failure}`;
    say(`${target.name}, ${name}: ${behaviour.name} ${seconds} s${again}${ending}`);
    await stage.close();
    const place = { target: target.name, client: name, behaviour: behaviour.name };
    return { ...place, ...seen, ...(firstTry === undefined ? {} : { firstTry }) };
  };
  const waiting = [...behaviours].sort((a, b) => Number(b.isLong ?? false) - Number(a.isLong ?? false));
  const results: Result[] = [];
  const worker = async (): Promise<void> => {
    for (let behaviour = waiting.shift(); behaviour !== undefined; behaviour = waiting.shift()) {
      results.push(await play(behaviour));
    }
  };
  try {
    await Promise.all(Array.from({ length: atOnce }, worker));
    if (restart !== undefined) return results;
    const final: Result[] = [];
    for (const result of results) {
      const wrong = troubleOfABusyMachine(result);
      const behaviour = behaviours.find((one) => one.name === result.behaviour)!;
      final.push(wrong === undefined ? result : await play(behaviour, wrong));
    }
    return final;
  } finally {
    await driver.close();
  }
};

/**
 * Something was late or a call timed out, as may happen when many clients begin at once on two cores: worth a second
 * try, alone. A broken promise is not, and a fact that differs is not either.
 */
const troubleOfABusyMachine = ({ facts, failure }: Result): string | undefined => {
  if (failure !== undefined) return isBrokenPromise(failure) ? undefined : failure;
  const late = Object.entries(facts ?? {}).find(([, fact]) => typeof fact === "object" && !fact.kept);
  return late === undefined ? undefined : `${late[0]}: ${factText(late[1])}`;
};

/** What a behaviour shows that a client cannot be asked to do. */
export const notOffered: Facts = { offered: "not offered" };

const observed = async (behaviour: Behaviour, stage: Stage): Promise<Pick<Result, "facts" | "failure">> => {
  try {
    return { facts: await behaviour.run(stage) };
  } catch (error) {
    return error instanceof NotOffered ? { facts: notOffered } : { failure: (error as Error).message };
  }
};
