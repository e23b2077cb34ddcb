import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { flip } from "../flip.ts";
import { eventually, type Lab } from "../lab.ts";
import type { Recipe } from "../recipe.ts";
import { SlowDisk } from "../slow-disk.ts";
import { embeddedDay, killed } from "./e1-embedded-killed.ts";

/** Both stores' reserves, and room for half of the load's messages. */
const smallDiskMb = 90;

/** Writes until there is not a byte of room left. */
const fill = (path: string): void => {
  const file = openSync(path, "a");
  let bytes = 1024 * 1024;
  while (bytes > 0) {
    try {
      if (writeSync(file, Buffer.alloc(bytes, 7)) < bytes) bytes >>= 1;
    } catch {
      bytes >>= 1;
    }
  }
  closeSync(file);
};

export const e4: Recipe = {
  name: "E4",
  title: "the embedded server's disk runs full, it is killed while it is full, and starts again on the full disk",
  expects: "refusals that say so, nothing stored is lost or half-done, and it works again by itself when there is room",
  embedded: true,
  async run(lab) {
    const said: string[] = [];
    mkdirSync(lab.dataFolder, { recursive: true });
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", `size=${smallDiskMb}m`, "tmpfs", lab.dataFolder]);
    } catch {
      return { failures: ["void: this recipe mounts a small disk, which takes the rights of root"], notes: {} };
    }
    const filler = join(lab.dataFolder, "filler");
    try {
      const outcome = await embeddedDay(lab, {
        load: { bodyBytes: [200, 2_000] },
        quietWithinMs: 60_000,
        async strike(_, users) {
          await pause(2_000);
          lab.faultBegins("the disk is full");
          fill(filler);
          await pause(3_000);
          // What refusals left free, or what a checkpoint or a reserve gave back.
          fill(filler);
          await pause(2_000);
          if (lab.options.size === "long" || lab.random.chance(0.5)) {
            killed(lab, users, 1);
            await lab.running[0]!.kill();
            const again = await lab.server("full", {}, { ready: false });
            await eventually(8_000, async () => !again.runs || (await again.health())?.status === "ok");
            lab.options.say(`  started on the full disk: ${again.runs ? "it runs" : "it ended"}`);
            if (!again.runs) {
              again.expectsToEnd = true;
              if (again.ending?.code !== 1 || !again.logText().includes("cannot start"))
                said.push(`on a full disk it ended with ${JSON.stringify(again.ending)}:\n${again.lastLines(4)}`);
            }
          }
          rmSync(filler);
          if (lab.running.length === 0) await lab.server("room");
          const well = await eventually(15_000, async () => (await lab.running[0]?.health())?.status === "ok");
          if (!well) said.push("there is room again, but the server does not become ready within 15 s");
          lab.faultEnds("there is room again");
        },
      });
      const full = lab.ledger.entries.filter((entry) => entry.kind === "reply" && entry.code === "store_full").length;
      return { ...outcome, failures: [...outcome.failures, ...said], notes: { ...outcome.notes, storeFull: full } };
    } finally {
      await Promise.all(lab.running.map((server) => server.kill()));
      execFileSync("umount", ["-l", lab.dataFolder]);
    }
  },
};

export const e10: Recipe = {
  name: "E10",
  title: "the embedded server is started on a folder that it may only read",
  expects: "it refuses to start and says why; when it may write again, it serves",
  embedded: true,
  async run(lab) {
    const failures: string[] = [];
    mkdirSync(lab.dataFolder, { recursive: true });
    const mount = (...args: string[]): void => void execFileSync("mount", args);
    try {
      mount("-t", "tmpfs", "-o", `size=${smallDiskMb}m`, "tmpfs", lab.dataFolder);
    } catch {
      return { failures: ["void: this recipe mounts a small disk, which takes the rights of root"], notes: {} };
    }
    try {
      for (const [name, hasFiles] of [
        ["empty", false],
        ["used", true],
      ] as const) {
        if (hasFiles) await (await lab.server("first")).stop();
        mount("-o", "remount,ro", lab.dataFolder);
        const refusing = await lab.server(name, {}, { ready: false });
        refusing.expectsToEnd = true;
        const ended = await eventually(20_000, () => !refusing.runs);
        const said = refusing.logText();
        if (!ended || refusing.ending?.code !== 1 || !said.includes("cannot start") || !said.includes(lab.dataFolder))
          failures.push(`${name}: ended with ${JSON.stringify(refusing.ending)}, saying:\n${refusing.lastLines(5)}`);
        await refusing.kill();
        mount("-o", "remount,rw", lab.dataFolder);
      }
      await lab.server("again");
      return { failures, notes: {} };
    } finally {
      await Promise.all(lab.running.map((server) => server.kill()));
      execFileSync("umount", ["-l", lab.dataFolder]);
    }
  },
};

const syncMs = 400;

export const e5: Recipe = {
  name: "E5",
  title: "the embedded server's disk is slow to sync, and it is killed in the middle of a sync",
  expects: "as E1",
  embedded: true,
  run(lab) {
    const disk = new SlowDisk(lab.folder);
    const rounds = lab.options.size === "long" ? 12 : 3;
    return embeddedDay(lab, {
      servers: { a: disk.environment },
      quietWithinMs: 60_000,
      async strike(_, users) {
        lab.faultBegins(`every sync takes up to ${syncMs} ms now`);
        for (let round = 1; round <= rounds; round++) {
          disk.syncTakes(lab.random.between(30, syncMs));
          await pause(lab.random.between(500, 1_500));
          await disk.insideSync(20);
          killed(lab, users, rounds, 10 * syncMs);
          await lab.running[0]!.kill();
          disk.syncTakes(0);
          await lab.server(`a${round}`, disk.environment);
        }
        lab.faultEnds("the disk is quick");
      },
    });
  },
};

type Damage = { readonly what: string; readonly act: (data: string, lab: Lab) => void };

const firstSegment = "00000000000000000000.log";

/** What a crash or an administrator leaves behind, and everything can be made good from what is still there. */
const damages: readonly Damage[] = [
  {
    what: "noise behind the end of the commit log",
    act: (data, { random }) =>
      appendFileSync(join(data, "broker/commitlog", firstSegment), random.bytes(random.between(1, 5_000))),
  },
  {
    what: "zeros behind the end of the commit log",
    act: (data) => appendFileSync(join(data, "broker/commitlog", firstSegment), Buffer.alloc(4_096)),
  },
  {
    what: "noise behind the end of the consumers' progress",
    act: (data, { random }) =>
      appendFileSync(join(data, "broker/progress", newest(data)), random.bytes(random.between(1, 5_000))),
  },
  { what: "no consume queues", act: (data) => rmSync(join(data, "broker/queues"), { recursive: true }) },
  {
    what: "a topic without its consume queues",
    act(data, { random }) {
      const topics = readdirSync(join(data, "broker/queues"));
      rmSync(join(data, "broker/queues", topics[random.between(0, topics.length - 1)]!), { recursive: true });
    },
  },
  {
    what: "a consume queue cut in the middle of an entry",
    act(data, lab) {
      const file = someQueue(data, lab);
      truncateSync(file, Math.max(0, statSync(file).size - 27));
    },
  },
  { what: "flipped bits in a consume queue", act: (data, lab) => flip(someQueue(data, lab), lab.random, 5) },
  { what: "no checkpoint", act: (data) => rmSync(join(data, "broker/checkpoint"), { force: true }) },
  {
    what: "a flipped bit in the checkpoint",
    act: (data, { random }) => flip(join(data, "broker/checkpoint"), random, 1),
  },
  {
    what: "a half-written catalog beside the old one",
    act: (data) => writeFileSync(join(data, "broker/catalog.json.new"), '{"version":1,"top'),
  },
];

/** The segment of the progress log that is written to. */
const newest = (data: string): string =>
  readdirSync(join(data, "broker/progress"))
    .filter((name) => name.endsWith(".log"))
    .toSorted()
    .at(-1)!;

const someQueue = (data: string, { random }: Lab): string => {
  const files = readdirSync(join(data, "broker/queues"), { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.isFile() && statSync(join(entry.parentPath, entry.name)).size > 0,
  );
  const { parentPath, name } = files[random.between(0, files.length - 1)]!;
  return join(parentPath, name);
};

export const e6: Recipe = {
  name: "E6",
  title: "the embedded server is killed, and its files are torn, cut or gone where the commit log can make them good",
  expects: "as E1, whatever of this is damaged",
  embedded: true,
  run(lab) {
    const isLong = lab.options.size === "long";
    const drawn = isLong
      ? [...damages, ...damages]
      : Array.from({ length: 3 }, () => damages[lab.random.between(0, damages.length - 1)]!);
    return embeddedDay(lab, {
      async strike(_, users) {
        // There is none before the first has been written.
        await eventually(10_000, () => existsSync(join(lab.dataFolder, "broker/checkpoint")));
        lab.faultBegins("killed, and damaged");
        for (const [i, { what, act }] of drawn.entries()) {
          await pause(lab.random.between(500, 1_500));
          killed(lab, users, drawn.length);
          await lab.running[0]!.kill();
          lab.options.say(`  ${what}`);
          act(lab.dataFolder, lab);
          await lab.server(`a${i + 1}`);
        }
        lab.faultEnds("it lives");
      },
    });
  },
};
