import { resolve } from "node:path";
import { factText } from "./behaviour.ts";
import { clients } from "./client-table.ts";
import { startRealTarget } from "./real-target.ts";
import { runBehaviours } from "./run-behaviours.ts";

const only = process.argv.slice(2);
const target = await startRealTarget(resolve(import.meta.dirname, "../../.run/conformance/real"));
try {
  const prepared = await Promise.all(
    clients
      .filter(({ name }) => only.length === 0 || !["node", "java"].some((n) => only.includes(n)) || only.includes(name))
      .map(async (client) => ({ client, command: await client.prepare() })),
  );
  const names = only.filter((n) => !["node", "java"].includes(n));
  const results = await runBehaviours({
    target,
    clients: prepared,
    chosen: (b) => names.length === 0 || names.includes(b.name),
    say: (line) => console.error(line),
  });
  for (const { client, behaviour, facts, failure } of results) {
    console.log(`\n${client} ${behaviour}${failure === undefined ? "" : ` FAILED ${failure}`}`);
    for (const [name, fact] of Object.entries(facts ?? {})) {
      console.log(`    ${name}: ${factText(fact)}${typeof fact === "object" ? ` (${fact.ms} ms)` : ""}`);
    }
  }
} finally {
  await target.stop();
}
process.exit(0);
