import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { pauseMs } from "../../src/adapters/rocketmq/testing.ts";
import type { DeadList } from "../../src/wire/dead.ts";
import { Embedded } from "./embedded.ts";
import { Bench } from "./retrying.ts";

/**
 * The worst neighbour: one message kills its process (SIGKILL) each time, with a dozen healthy ones in hand beside it
 * that take longer than it does. They share its deaths, and must not share its end.
 */
it("RT-08 a message that kills its process is quarantined after three times; those held beside it are done", async () => {
  await using server = await new Embedded().start();
  const { endpoint, url } = server;
  const unique = (name: string) => `${name}_${randomBytes(4).toString("hex")}`;
  await using bench = new Bench({ endpoint, url, topic: async () => unique("topic"), group: () => unique("group") });
  const [topic, group] = [unique("topic"), unique("group")];
  const said: string[] = [];
  const deaths: (string | null)[] = [];
  let isOver = false;
  let kill = (): boolean => true;
  const live = async (): Promise<void> => {
    while (!isOver) {
      const child = spawn(process.execPath, [script, JSON.stringify({ endpoint, url, group, topic })], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      kill = () => child.kill("SIGTERM");
      let rest = "";
      child.stdout.on("data", (part: Buffer) => {
        const lines = (rest + part.toString()).split("\n");
        rest = lines.pop()!;
        said.push(...lines);
      });
      const signal = await new Promise<string | null>((resolve) => child.once("exit", (_, by) => resolve(by)));
      if (!isOver) deaths.push(signal);
    }
  };
  const living = live();
  const endMs = performance.now() + 140_000;
  const until = async (what: string, isSo: () => boolean | Promise<boolean>): Promise<void> => {
    while (!(await isSo())) {
      if (performance.now() > endMs) throw new Error(`never: ${what}\n${said.join("\n")}`);
      await pauseMs(200);
    }
  };
  const dead = async () => (await (await fetch(`${url}/v1/dead?group=${group}`)).json()) as DeadList;
  try {
    await until("ready", () => said.includes("ready"));
    await pauseMs(1_500);
    const healthy = Array.from({ length: 12 }, (_, i) => `healthy-${i}`);
    await bench.send(topic, ...healthy.slice(0, 6), "poison", ...healthy.slice(6));
    const isDone = (body: string) => said.some((line) => line.startsWith(`end ${body} `));
    await until("the poison is dead", async () => (await dead()).items.length > 0);
    await until("the healthy are done or dead", async () => {
      const { items } = await dead();
      return items.length - 1 + healthy.filter(isDone).length >= healthy.length;
    });
    const { items } = await dead();
    expect(items.map(({ reason, keys }) => [reason?.code, keys])).toEqual([["crash_loop", ["k-poison"]]]);
    expect(items[0]!.retry).toMatchObject({ crashes: 3, attempts: 3, originTopic: topic });
    expect(said.filter((line) => line.startsWith("begin poison"))).toEqual([1, 2, 3].map((n) => `begin poison ${n}`));
    expect(healthy.filter((body) => !isDone(body))).toEqual([]);
    expect(deaths).toEqual(["SIGKILL", "SIGKILL", "SIGKILL"]);
    // The test is worth nothing if the healthy ones were not in hand when their process died.
    const begunTwice = healthy.filter((body) => said.filter((line) => line.startsWith(`begin ${body} `)).length > 1);
    expect(begunTwice.length).toBeGreaterThan(6);
  } finally {
    isOver = true;
    kill();
    await living;
  }
}, 180_000);

const script = fileURLToPath(new URL("./held-consumer.ts", import.meta.url));
