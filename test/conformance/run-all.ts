import { resolve } from "node:path";
import type { Behaviour } from "./behaviour.ts";
import { clients as allClients, type Client } from "./client-table.ts";
import { type Difference, differences, type KnownDifference, needless } from "./compare.ts";
import { startEmbeddedTarget } from "./embedded-target.ts";
import { knownDifferences } from "./known-differences.ts";
import { startRealTarget } from "./real-target.ts";
import type { Report } from "./report.ts";
import { nameOverTls, type PreparedClient, type Result, runBehaviours } from "./run-behaviours.ts";
import type { Target, TargetName } from "./target.ts";

/** Everything: prepares the clients, starts the targets, runs what was chosen on all of them, compares. */
export type RunAllOptions = {
  readonly targets: readonly TargetName[];
  readonly clients: readonly string[];
  readonly chosen?: (behaviour: Behaviour) => boolean;
  readonly say: (line: string) => void;
};

export type Outcome = Report & {
  /** Clients whose tools are missing, with what to install. */
  readonly skipped: readonly { readonly client: string; readonly why: string }[];
  readonly unexplained: readonly Difference[];
  readonly needless: readonly KnownDifference[];
};

const runFolder = resolve(import.meta.dirname, "../../.run/conformance");
const starters: Record<TargetName, () => Promise<Target>> = {
  real: () => startRealTarget(resolve(runFolder, "real")),
  embedded: () => startEmbeddedTarget(resolve(runFolder, "embedded")),
};

export const runAll = async ({ targets, clients, chosen = () => true, say }: RunAllOptions): Promise<Outcome> => {
  const skipped: { client: string; why: string }[] = [];
  const prepared: PreparedClient[] = [];
  for (const client of allClients.filter(({ name }) => clients.includes(name))) {
    try {
      prepared.push({ client, command: await client.prepare(say) });
    } catch (error) {
      skipped.push({ client: client.name, why: (error as Error).message });
    }
  }
  const titles: { target: TargetName; title: string }[] = [];
  const runOn = async (name: TargetName): Promise<Result[]> => {
    const target = await starters[name]();
    titles.push({ target: name, title: target.title });
    try {
      return await runBehaviours({ target, clients: prepared, chosen, say });
    } finally {
      await target.stop();
    }
  };
  // One after the other: both at once were too much for two cores, and what is late differs.
  const results: Result[] = [];
  for (const name of targets) results.push(...(await runOn(name)));
  const found = differences(results, knownDifferences);
  return {
    results,
    found,
    skipped,
    targets: targets.map((name) => titles.find(({ target }) => target === name)!),
    clients: columns(prepared.map(({ client }) => client)),
    unexplained: found.filter(({ known }) => known === undefined),
    needless: needless(results, found, knownDifferences),
  };
};

const columns = (clients: readonly Client[]) => [
  ...clients.map(({ name, title }) => ({ name, title })),
  ...clients
    .filter(({ overTls }) => overTls)
    .map((client) => ({ name: nameOverTls(client), title: `${client.title.split(" ")[0]} over TLS` })),
];
