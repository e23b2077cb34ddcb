import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { viewExplanation } from "../src/cli/retry-view.ts";
import { type Setting, settings } from "../src/config.ts";
import { simulateRetries } from "../src/retry/simulate.ts";

const root = resolve(import.meta.dirname, "..");
const read = (file: string): string => readFileSync(join(root, file), "utf8");
const pages = [
  "README.md",
  "ARCHITECTURE.md",
  "CONVENTIONS.md",
  "docs/semantics.md",
  "docs/operations.md",
  "docs/broker.md",
  "docs/transactions.md",
  "docs/adr/0008-embedded-broker.md",
  "src/broker/README.md",
];

describe("the documents", () => {
  it("docs/operations.md lists every setting with the meaning and default that the code has", () => {
    const table = /<!-- settings -->\n([\s\S]*?)\n<!-- \/settings -->/.exec(read("docs/operations.md"))![1]!;
    const rows = (settings as readonly Setting[]).map(({ name, meaning, fallback }) => {
      const shown = fallback === undefined ? " must be given " : fallback === "" ? " " : ` \`${fallback}\` `;
      return `| \`${name}\` | ${meaning} |${shown}|`;
    });
    expect(table.split("\n")).toEqual(rows);
  });

  it("docs/retries.md shows what escapement retry explain prints about its own example", () => {
    const [, policy, flags, shown] =
      /```json\n([\s\S]*?)```[\s\S]*?\$ escapement retry explain --policy policy.json (.*)\n([\s\S]*?)\n```/.exec(
        read("docs/retries.md"),
      )!;
    expect(flags).toBe("--error transient:http_503 --attempts 6");
    const error = { class: "transient", code: "http_503" };
    const explanation = simulateRetries({ policy: JSON.parse(policy!), error, attempts: 6 });
    expect(viewExplanation(explanation, (_, text) => text)).toEqual(shown!.split("\n"));
  });

  it.each(pages)("%s links only to files that are there", (page) => {
    const missing = [...read(page).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)]
      .map(([, target]) => target!)
      .filter((target) => !existsSync(join(root, dirname(page), target)));
    expect(missing).toEqual([]);
  });

  it("README.md starts the Python example with the client that the example says, and promises what it prints", () => {
    const example = read("examples/ingest-from-python.py");
    const [client] = /rocketmq-python-client==[\d.]+/.exec(example)!;
    const [, printed] = /handed over: (.*), for demo/.exec(example)!;
    expect(read("README.md")).toContain(`pip install ${client}\n.venv/bin/python examples/ingest-from-python.py\n`);
    expect(read("README.md")).toContain(`prints \`${printed}\``);
  });

  it("ARCHITECTURE.md names every folder of src and every runtime dependency", () => {
    const text = read("ARCHITECTURE.md");
    const { dependencies } = JSON.parse(read("package.json")) as { dependencies: Record<string, string> };
    expect(Object.keys(dependencies).filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
  });
});
