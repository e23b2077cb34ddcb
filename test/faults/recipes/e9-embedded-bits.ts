import { cpSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { Producer } from "rocketmq-client-nodejs";
import { consumeAll } from "../../rocketmq-consumer.ts";
import { surviving } from "../../surviving-client.ts";
import { flip } from "../flip.ts";
import { eventually, type Lab } from "../lab.ts";
import { fingerprint, serialProperty } from "../load-plan.ts";
import type { Recipe } from "../recipe.ts";
import type { ServerProcess } from "../server-process.ts";

const directCount = 200;
const waitingCount = 200;
const quiet = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} };

type Target = {
  readonly what: string;
  /** Below the data folder; of several files the last one by name. */
  readonly path: string;
  /** So many messages may be gone when one bit is wrong; the server must say so in its log or refuse to start. */
  readonly lostMax: number;
};

const all = directCount + waitingCount;

const targets: readonly Target[] = [
  { what: "the commit log", path: "broker/commitlog", lostMax: 1 },
  { what: "the consumers' progress", path: "broker/progress", lostMax: 0 },
  { what: "the catalog", path: "broker/catalog.json", lostMax: 0 },
  { what: "the SQLite file of what waits", path: "escapement.db", lostMax: all },
  { what: "the log of that file", path: "escapement.db-wal", lostMax: all },
];

const fileOf = (data: string, { path }: Target): string => {
  const at = join(data, path);
  if (!statSync(at).isDirectory()) return at;
  return join(at, readdirSync(at).toSorted().at(-1)!);
};

/** Starts it, and tells whether it serves, or has refused with a reason. */
const startOrRefusal = async (lab: Lab, name: string): Promise<ServerProcess> => {
  const server = await lab.server(name, {}, { ready: false });
  await eventually(15_000, async () => !server.runs || (await server.health())?.status === "ok");
  if (!server.runs) server.expectsToEnd = true;
  return server;
};

export const e9: Recipe = {
  name: "E9",
  title: "a single bit flips in a file of the embedded server while it is down",
  expects:
    "never a changed body; what cannot be read is told in the log and is no more than that, or it refuses to start and says which file; with the bit put right everything is there",
  embedded: true,
  async run(lab) {
    const failures: string[] = [];
    const topic = lab.topics.normal;
    const sent = new Map<number, number>();
    const message = (serial: number) => {
      const body = Buffer.concat([Buffer.from(`${serial}\0`), lab.random.bytes(lab.random.between(100, 400))]);
      const properties = { [serialProperty]: String(serial) };
      sent.set(serial, fingerprint(body, Object.entries(properties)));
      return { topic, body, properties };
    };
    const server = await lab.server("a");
    const producer = surviving(
      new Producer({ endpoints: lab.endpoint, namespace: "", topic, logger: quiet, requestTimeout: 5_000 }),
    );
    await producer.startup();
    for (let serial = 0; serial < directCount; serial++) {
      const { properties, ...rest } = message(serial);
      await producer.send({ ...rest, properties: new Map(Object.entries(properties)) });
    }
    await producer.shutdown();
    const items = Array.from({ length: waitingCount }, (_, i) => {
      const { body, ...rest } = message(directCount + i);
      return { ...rest, bodyBase64: body.toString("base64"), delay: "1s" };
    });
    const accepted = await lab.http.call(server.port, "POST", "/v1/messages/batch", items);
    // Killed, so that the log of the SQLite file has what is not in the file yet.
    await server.kill();
    if (accepted.end !== "answer" || accepted.status !== 200) failures.push("void: the batch was not accepted");

    const original = join(lab.folder, "original");
    cpSync(lab.dataFolder, original, { recursive: true });
    const receive = async (where: string, withinMs: number): Promise<Set<number>> => {
      const seen = new Set<number>();
      const consuming = await consumeAll({
        endpoint: lab.endpoint,
        topic,
        group: `${topic}_g`,
        onMessage: ({ body, properties }) => {
          const serial = Number(properties.get(serialProperty));
          const isAsSent = fingerprint(body, properties) === sent.get(serial);
          if (!isAsSent) failures.push(`${where}: message ${serial} arrived changed`);
          seen.add(serial);
        },
      });
      await eventually(withinMs, () => seen.size === all);
      await pause(300);
      await consuming.stop();
      return seen;
    };
    const putRight = (): void => {
      rmSync(lab.dataFolder, { recursive: true });
      cpSync(original, lab.dataFolder, { recursive: true });
    };
    const notes: Record<string, number> = { served: 0, refused: 0, lost: 0 };
    const rounds = lab.options.size === "long" ? 10 : 1;
    for (let round = 0; round < rounds; round++) {
      for (const [i, target] of targets.entries()) {
        putRight();
        const file = fileOf(lab.dataFolder, target);
        const [at] = flip(file, lab.random, 1);
        const where = `a bit of byte ${at} of ${target.what}`;
        const damaged = await startOrRefusal(lab, `${round}-${i}`);
        if (!damaged.runs) {
          notes.refused!++;
          const reason = /cannot start.*/.exec(damaged.logText())?.[0] ?? "";
          // By its name, or the folder it is in.
          if (damaged.ending?.code !== 1 || !/escapement\.db|catalog|commitlog|progress/.test(reason))
            failures.push(`${where}: it ended with ${JSON.stringify(damaged.ending)}:\n${damaged.lastLines(5)}`);
          continue;
        }
        notes.served!++;
        const seen = await receive(where, target.lostMax > 0 ? 4_000 : 8_000);
        const lost = all - seen.size;
        notes.lost! += lost;
        if (lost > target.lostMax)
          failures.push(`${where}: ${lost} messages are lost, at most ${target.lostMax} expected`);
        if (lost > 0 && !/"level":[56]0/.test(damaged.logText()))
          failures.push(`${where}: ${lost} messages are lost and no error was logged:\n${damaged.lastLines(3)}`);
        await damaged.kill();
      }
    }
    putRight();
    await lab.server("right");
    const seen = await receive("put right", 10_000);
    if (seen.size !== all) failures.push(`put right, it has ${seen.size} of ${all} messages`);
    return { failures: failures.slice(0, 12), notes };
  },
};
