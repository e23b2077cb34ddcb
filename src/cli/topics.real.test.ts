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

it("lists and deletes at a real broker, which says yes to deleting what is not there", async () => {
  const { broker } = (await services()).rocketmq;
  const name = `cli-${randomUUID()}`;
  const at = ["--broker", broker];
  await run(["topics", "create", name, "--type", "FIFO", "--queues", "2", ...at]);
  await run(["groups", "create", name, "--retries", "3", ...at]);

  const list = async (...args: string[]): Promise<{ name: string }[]> =>
    JSON.parse((await run([...args, "--json", ...at])).out);
  const names = async (...args: string[]) => (await list(...args)).map((one) => one.name);
  expect(await list("topics", "list")).toContainEqual({ name, type: "FIFO", queues: 2, brokers: [broker] });
  expect(await list("groups", "list")).toContainEqual({ name, retries: 3, ordered: false, brokers: [broker] });
  const own = ["TBW102", "SCHEDULE_TOPIC_XXXX", "rmq_sys_wheel_timer", "TOOLS_CONSUMER", "CID_RMQ_SYS_TRANS"];
  const shown = [...(await names("topics", "list")), ...(await names("groups", "list"))];
  expect(shown.filter((one) => own.includes(one) || /sys|%RETRY%/i.test(one))).toEqual([]);
  expect(await names("topics", "list", "--all")).toEqual(expect.arrayContaining([name, "rmq_sys_wheel_timer"]));
  expect(await names("groups", "list", "--all")).toEqual(expect.arrayContaining([name, "CID_RMQ_SYS_TRANS"]));

  for (const [kind, what] of [
    ["topics", "topic"],
    ["groups", "consumer group"],
  ] as const) {
    const deleted = await run([kind, "delete", name, ...at]);
    expect(deleted).toMatchObject({ code: 0, out: `deleted ${what} ${name} at ${broker}\n` });
    expect(await names(kind, "list", "--all")).not.toContain(name);
    const again = await run([kind, "delete", name, ...at]);
    expect(again).toMatchObject({ code: 5, out: "" });
    expect(again.err).toContain(`There is no ${what} ${name} at ${broker}`);
    // A question by name would have made the group.
    expect(await names(kind, "list", "--all")).not.toContain(name);
  }
}, 30_000);
