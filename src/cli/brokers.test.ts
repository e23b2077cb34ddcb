import { PassThrough } from "node:stream";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type RunningBroker, startBroker } from "../start-broker.ts";
import { merged, viewListed } from "./brokers.ts";
import { Output } from "./output.ts";
import { runProgram } from "./program.ts";

/** Topics and groups at two embedded brokers, as a person and a program see them. */
let [a, b]: RunningBroker[] = [];
beforeAll(async () => {
  [a, b] = await Promise.all([startBroker(), startBroker()]);
});
afterAll(() => Promise.all([a?.stop(), b?.stop()]));

const run = async (line: string, ...brokers: readonly RunningBroker[]) => {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const at = ["--broker", brokers.map(({ endpoint }) => endpoint).join(",")];
  const code = await runProgram([...line.split(" "), ...at], new Output(out, err));
  return { code, out: out.read()?.toString() ?? "", err: err.read()?.toString() ?? "" };
};

it("lists topics and groups of several brokers, and shows where they differ", async () => {
  expect(await run("topics list", a!, b!)).toEqual({
    code: 0,
    out: "",
    err: `no topics at ${a!.endpoint}, ${b!.endpoint}\n`,
  });
  for (const broker of [a!, b!]) await broker.createTopic("same", { type: "FIFO", queues: 2 });
  await a!.createTopic("differs", { queues: 2 });
  await b!.createTopic("differs", { queues: 3 });
  const { out } = await run("topics list", a!, b!);
  expect(out.split("\n")).toEqual([
    "name     type    queues  brokers",
    `differs  NORMAL       2  ${a!.endpoint}`,
    `differs  NORMAL       3  ${b!.endpoint}`,
    "same     FIFO         2  all",
    "",
  ]);
  expect((await run("topics list", a!)).out).toBe(
    "name     type    queues\ndiffers  NORMAL       2\nsame     FIFO         2\n",
  );

  await a!.createGroup("readers", { attemptsMax: 4, orderly: true });
  await a!.createGroup("billing");
  expect((await run("groups list", a!)).out).toBe(
    "name     retries  ordered\nbilling       16  no\nreaders        3  yes\n",
  );
  expect(JSON.parse((await run("groups list --json", a!, b!)).out)).toEqual([
    { name: "billing", retries: 16, ordered: false, brokers: [a!.endpoint] },
    { name: "readers", retries: 3, ordered: true, brokers: [a!.endpoint] },
  ]);
});

it("deletes where there is something to delete, and says where that was", async () => {
  await a!.createTopic("old");
  await a!.createGroup("gone");
  const topic = await run("topics delete old", a!, b!);
  expect(topic).toMatchObject({ code: 0, out: `deleted topic old at ${a!.endpoint}\n` });
  expect(topic.err).toContain("name servers");
  expect((await run("topics list --json", a!, b!)).out).not.toContain('"old"');
  const group = await run("groups delete gone --json", a!, b!);
  expect({ ...group, out: JSON.parse(group.out) }).toEqual({
    code: 0,
    out: { name: "gone", deleted: true, brokers: [a!.endpoint] },
    err: "",
  });
  expect((await run("groups list", a!, b!)).out).not.toContain("gone");
});

it("ends with 5 when there is nothing of that name, and makes nothing by asking", async () => {
  expect(await run("topics delete nothing", a!, b!)).toEqual({
    code: 5,
    out: "",
    err: `error: There is no topic nothing at ${a!.endpoint}, ${b!.endpoint}; nothing was deleted.\n`,
  });
  const group = await run("groups delete nothing --json", a!);
  expect(group.code).toBe(5);
  expect(JSON.parse(group.out)).toMatchObject({ error: { code: "not_found" } });
  expect((await run("groups list", a!)).out).not.toContain("nothing");
});

it("deletes nowhere when one of the brokers does not answer", async () => {
  await a!.createTopic("kept");
  const stopped = await startBroker();
  await stopped.stop();
  expect(await run("topics delete kept", a!, stopped)).toMatchObject({ code: 1, out: "" });
  expect((await run("topics list", a!)).out).toContain("kept");
});

it("shows a name from elsewhere without its control characters", () => {
  const rows = merged([["a:1", [{ name: "x\u001b[2J" }]]]);
  expect(viewListed(rows, ["a:1"])).toEqual(["name", "x\\u001b[2J"]);
});
