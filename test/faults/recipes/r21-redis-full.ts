import { setTimeout as pause } from "node:timers/promises";
import { eventually, type Lab } from "../lab.ts";
import type { Load } from "../load.ts";
import type { Recipe } from "../recipe.ts";
import { standardDay } from "../standard-day.ts";

const usedMemory = async (lab: Lab): Promise<number> =>
  Number(/used_memory:(\d+)/.exec((await lab.redisSay("INFO", "memory"))!)![1]);

export const r21: Recipe = {
  name: "R21",
  title: "Redis runs full (noeviction) in the middle of the load and stays full",
  expects:
    "accepts are refused with store_full before anything is half-done; what is stored drains to the last message",
  async run(lab) {
    const said: string[] = [];
    let seenLoad: Load | undefined;
    const outcome = await standardDay(lab, {
      // The ingest topic keeps what does not fit, which is right, and would keep this recipe waiting for it.
      load: {
        bodyBytes: [800, 1_600],
        shares: { groups: 0.1, keys: 0.3, cancels: 0.05, reschedules: 0.02, batches: 0.4, topicDoor: 0 },
      },
      strikeBetween: [0.3, 0.4],
      async strike(_, load) {
        seenLoad = load;
        // Room for some 200 messages: with more, a busy machine would send them as quickly as it takes new ones.
        const limit = (await usedMemory(lab)) + 300_000;
        lab.faultBegins(`maxmemory is ${limit} bytes now, 300 kB above what is used`);
        await lab.redisSay("CONFIG", "SET", "maxmemory", limit);
        if (!(await eventually(20_000, () => (load.refusals.get("store_full") ?? 0) > 0)))
          said.push("void: nobody was answered store_full");
        const seenBefore = lab.seen.size;
        await pause(1_500);
        if (lab.seen.size === seenBefore) said.push("a full Redis was not drained: nothing arrived for 1.5 s");
        lab.faultEnds("it is full and stays so");
      },
    });
    await lab.redisSay("CONFIG", "SET", "maxmemory", 0);
    const again = await lab.http.call(lab.ports()[0]!, "POST", "/v1/messages", {
      topic: lab.topics.normal,
      body: "room again",
      delay: "1h",
    });
    if (again.end !== "answer" || again.status !== 201)
      said.push(`with room again an accept was answered ${JSON.stringify(again)}`);
    return {
      ...outcome,
      failures: [...outcome.failures, ...said],
      notes: { ...outcome.notes, storeFull: seenLoad?.refusals.get("store_full") ?? 0 },
    };
  },
};

export const r22: Recipe = {
  name: "R22",
  title: "batches meet a Redis that runs full while it takes them",
  expects: "every item is stored whole or not at all: index, records and counters agree, refused keys are unknown",
  async run(lab) {
    const failures: string[] = [];
    const server = await lab.server("a");
    await lab.redisSay("CONFIG", "SET", "maxmemory", (await usedMemory(lab)) + 1_500_000);
    const accepted: string[] = [];
    const refused: string[] = [];
    const batches = lab.options.size === "long" ? 400 : 80;
    for (let batch = 0; batch < batches; batch += 8) {
      // Eight at a time, so that some calls find room and others, begun in the same moment, do not.
      await Promise.all(
        Array.from({ length: 8 }, async (_, i) => {
          const items = Array.from({ length: 25 }, (_, n) => ({
            topic: lab.topics.normal,
            key: `full-${batch + i}-${n}`,
            bodyBase64: lab.random.bytes(lab.random.between(200, 2_000)).toString("base64"),
            delay: `${lab.random.between(60, 20 * 3_600)}s`,
          }));
          const result = await lab.http.call(server.port, "POST", "/v1/messages/batch", items);
          const results =
            result.end === "answer"
              ? (result.body as { results?: { message?: { id: string }; error?: { code: string } }[] }).results
              : undefined;
          if (results === undefined) return void failures.push(`a batch was answered ${JSON.stringify(result)}`);
          results.forEach(({ message, error }, n) => {
            if (message !== undefined) accepted.push(message.id);
            else if (error!.code === "store_full") refused.push(items[n]!.key);
            else failures.push(`item ${items[n]!.key} was answered ${error!.code}, store_full expected`);
          });
        }),
      );
    }
    if (accepted.length === 0 || refused.length === 0)
      failures.push(`void: ${accepted.length} accepted and ${refused.length} refused, both needed`);
    const stats = (await server.stats())!;
    const byIndex = stats.duePerHour.reduce((sum, count) => sum + count, 0);
    if (stats.waiting.total !== accepted.length)
      failures.push(`I11: counters say ${stats.waiting.total} wait, ${accepted.length} were accepted`);
    if (byIndex !== accepted.length)
      failures.push(`I11: the due index holds ${byIndex}, ${accepted.length} were accepted`);
    for (const id of accepted) {
      const found = await lab.http.call(server.port, "GET", `/v1/messages/${id}`);
      if (found.end !== "answer" || found.status !== 200) failures.push(`I11: accepted message ${id} has no record`);
    }
    for (const key of refused) {
      const found = await lab.http.call(server.port, "GET", `/v1/messages?key=${encodeURIComponent(key)}`);
      if (found.end !== "answer" || found.status !== 404)
        failures.push(`P8: refused key ${key} is known: ${JSON.stringify(found)}`);
    }
    // Taking back must work although Redis is full.
    for (const id of accepted) {
      const canceled = await lab.http.call(server.port, "DELETE", `/v1/messages/${id}`);
      if (canceled.end !== "answer" || canceled.status !== 200)
        failures.push(`message ${id} could not be canceled in a full Redis: ${JSON.stringify(canceled)}`);
    }
    const after = (await server.stats())!;
    if (after.waiting.total !== 0) failures.push(`I11: ${after.waiting.total} wait after all were canceled`);
    if (after.duePerHour.some((count) => count !== 0))
      failures.push("I11: the due index is not empty after all were canceled");
    return { failures: failures.slice(0, 12), notes: { accepted: accepted.length, refused: refused.length } };
  },
};
