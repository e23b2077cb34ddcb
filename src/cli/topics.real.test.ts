import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { services } from "../../test/services.ts";

const bin = fileURLToPath(new URL("../../bin/escapement.mjs", import.meta.url));

const run = (args: readonly string[]): Promise<{ code: number; out: string; err: string }> =>
  new Promise((resolve) => {
    const child = execFile(process.execPath, [bin, ...args], (_, out, err) => {
      resolve({ code: child.exitCode ?? -1, out, err });
    });
  });

it("creates a topic at a real broker, again without harm, and never with another type", async () => {
  const { broker } = (await services()).rocketmq;
  const name = `cli-${randomUUID()}`;
  const created = await run(["topics", "create", name, "--type", "FIFO", "--queues", "2", "--broker", broker]);
  expect(created).toEqual({ code: 0, out: `${name} is there: FIFO, 2 queues, at ${broker}\n`, err: "" });
  const again = await run(["topics", "create", name, "--type", "FIFO", "--broker", broker, "--json"]);
  expect(JSON.parse(again.out)).toEqual({ name, type: "FIFO", queues: 8, brokers: [broker] });
  const other = await run(["topics", "create", name, "--broker", broker]);
  expect(other).toMatchObject({ code: 1, out: "" });
  expect(other.err).toContain(`topic ${name} exists with type FIFO`);
});
