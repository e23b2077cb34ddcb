import { setTimeout as pause } from "node:timers/promises";
import { eventually, type Lab } from "../lab.ts";
import type { Recipe } from "../recipe.ts";
import type { ServerProcess } from "../server-process.ts";

/** How soon a changed setting must be noticed. */
const noticedMs = 10_000;

type Wrong = { readonly name: string; readonly right: string; readonly wrong: string; readonly word: string };

const settings: readonly Wrong[] = [
  { name: "appendfsync", right: "always", wrong: "everysec", word: "appendfsync" },
  { name: "appendonly", right: "yes", wrong: "no", word: "appendonly" },
  { name: "maxmemory-policy", right: "noeviction", wrong: "allkeys-lru", word: "maxmemory-policy" },
];

const accept = (lab: Lab, server: ServerProcess) =>
  lab.http.call(server.port, "POST", "/v1/messages", { topic: lab.topics.normal, body: "x", delay: "1h" });

const codeOf = (result: Awaited<ReturnType<typeof accept>>): string =>
  result.end !== "answer" ? result.end : result.status < 300 ? "accepted" : (result.body as { code: string }).code;

export const r23: Recipe = {
  name: "R23",
  title: "Redis has a setting that would lose messages, at the start or from some moment on",
  expects:
    "not ready and nothing accepted, said within 10 s with the setting's name; all well again when it is put right",
  async run(lab) {
    const failures: string[] = [];
    const slowest: number[] = [];
    await lab.redis();
    for (const { name, right, wrong, word } of settings) {
      await lab.redisSay("CONFIG", "SET", name, wrong);
      const server = await lab.server(`start-${name}`, {}, { ready: false });
      server.expectsToEnd = true; // to refuse to start is as good as not to be ready
      let said = "";
      const answered = await eventually(15_000, async () => {
        said = server.runs
          ? ((await server.health())?.problems.map(({ detail }) => detail).join("; ") ?? "")
          : server.lastLines();
        return said.includes(word);
      });
      if (!answered) failures.push(`${name} ${wrong} at the start: neither refused nor named (${said})`);
      if (server.runs) {
        const code = codeOf(await accept(lab, server));
        if (code !== "store_refusing")
          failures.push(`${name} ${wrong} at the start: an accept was answered ${code}, store_refusing expected`);
      }
      await server.kill();
      await lab.redisSay("CONFIG", "SET", name, right);
    }
    const server = await lab.server("a");
    for (const { name, right, wrong, word } of settings) {
      const before = codeOf(await accept(lab, server));
      if (before !== "accepted") failures.push(`${name} ${right}: an accept was answered ${before}`);
      const fromMs = performance.now();
      await lab.redisSay("CONFIG", "SET", name, wrong);
      const noticed = await eventually(noticedMs, async () =>
        ((await server.health())?.problems ?? []).some(({ detail }) => detail.includes(word)),
      );
      if (!noticed) failures.push(`${name} ${wrong} at run time: not noticed within ${noticedMs} ms`);
      slowest.push(Math.round(performance.now() - fromMs));
      const during = codeOf(await accept(lab, server));
      if (during !== "store_refusing")
        failures.push(`${name} ${wrong} at run time: an accept was answered ${during}, store_refusing expected`);
      await lab.redisSay("CONFIG", "SET", name, right);
      if (!(await eventually(noticedMs, async () => (await server.health())?.status === "ok"))) {
        failures.push(`${name} is right again, but the server does not become ready`);
      }
      await pause(100);
    }
    return { failures, notes: { noticedMs: Math.max(...slowest) } };
  },
};
