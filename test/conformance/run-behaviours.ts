import type { Behaviour, Facts } from "./behaviour.ts";
import { allBehaviours } from "./behaviour-table.ts";
import type { Client } from "./client-table.ts";
import { type DriverCommand, DriverProcess, NotOffered } from "./driver-process.ts";
import { Stage } from "./stage.ts";
import type { Target } from "./target.ts";
import { TogetherOnce } from "./together.ts";

/**
 * Runs behaviours against one target, for several clients at the same time. Most behaviours mostly wait, and each has
 * topics and groups of its own; so many of them run at once.
 */
export type Result = {
  readonly target: string;
  readonly client: string;
  readonly behaviour: string;
  /** Undefined when the behaviour failed. */
  readonly facts?: Facts;
  readonly failure?: string;
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

/** More at once made the JVM of the broker the bottleneck on two cores, and delays late. */
const atOnce = 8;

export const runBehaviours = async ({ target, clients, chosen, say }: RunOptions): Promise<Result[]> => {
  const behaviours = allBehaviours.filter(chosen);
  const results: Result[] = [];
  const phases = [undefined, "restart", "transactions"] as const;
  for (const phase of phases) {
    const together = clients.flatMap((prepared) =>
      behaviours
        .filter((one) => one.phase === phase && (one.clients?.includes(prepared.client.name) ?? true))
        .map((behaviour) => ({ prepared, behaviour })),
    );
    if (together.length === 0) continue;
    const restart = phase === "restart" ? new TogetherOnce(together.length, () => target.restart()) : undefined;
    await Promise.all(
      clients.map(async ({ client, command }) => {
        const own = together.filter(({ prepared }) => prepared.client === client).map(({ behaviour }) => behaviour);
        const start = () => DriverProcess.start(command(target.endpoint, { tls: false }));
        results.push(...(await runClient({ target, name: client.name, behaviours: own, start, restart, say })));
      }),
    );
  }
  return results;
};

/** The short pass over TLS, for clients that can be told to trust the broker's certificate. */
export const runOverTls = async ({ target, clients, chosen, say }: RunOptions): Promise<Result[]> => {
  const behaviours = allBehaviours.filter((one) => one.alsoOverTls === true && chosen(one));
  const results = await Promise.all(
    clients
      .filter(({ client }) => client.overTls)
      .map(({ client, command }) => {
        const start = () => DriverProcess.start(command(target.endpoint, { tls: true }));
        return runClient({ target, name: `${client.name} over TLS`, behaviours, start, say });
      }),
  );
  return results.flat();
};

type ClientRun = {
  readonly target: Target;
  readonly name: string;
  readonly behaviours: readonly Behaviour[];
  readonly start: () => Promise<DriverProcess>;
  readonly restart?: TogetherOnce | undefined;
  readonly say: (line: string) => void;
};

const runClient = async ({ target, name, behaviours, start, restart, say }: ClientRun): Promise<Result[]> => {
  if (behaviours.length === 0) return [];
  const driver = await start();
  const waiting = [...behaviours];
  const results: Result[] = [];
  const worker = async (): Promise<void> => {
    for (let behaviour = waiting.shift(); behaviour !== undefined; behaviour = waiting.shift()) {
      const parts = { target, client: name, driver, another: start };
      const stage = new Stage(restart === undefined ? parts : { ...parts, restart });
      const startedMs = performance.now();
      const result = { target: target.name, client: name, behaviour: behaviour.name };
      try {
        results.push({ ...result, facts: await behaviour.run(stage) });
      } catch (error) {
        if (error instanceof NotOffered) results.push({ ...result, facts: { offered: "not offered" } });
        else results.push({ ...result, failure: (error as Error).message });
      }
      const seconds = ((performance.now() - startedMs) / 1_000).toFixed(1);
      const { failure } = results.at(-1)!;
      say(`${target.name} ${name} ${behaviour.name} ${seconds} s${failure === undefined ? "" : ` FAILED: ${failure}`}`);
      await stage.close();
    }
  };
  try {
    await Promise.all(Array.from({ length: atOnce }, worker));
  } finally {
    await driver.close();
  }
  return results;
};
