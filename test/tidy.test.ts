import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";

/**
 * Tests about the code itself: which room may look into which, and which calls have one home. A failure names the
 * file, the line and what to use instead.
 */

const root = resolve(import.meta.dirname, "..");

const filesBelow = (folder: string): string[] =>
  readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.ts$/.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));

const isTest = (file: string): boolean =>
  /\.(test|contract)\.ts$/.test(file) || /\/test(ing)?[/.]/.test(file) || /-hands\.ts$/.test(file);

const sources = filesBelow("src");
const product = sources.filter((file) => !isTest(file));

type Import = { readonly file: string; readonly line: number; readonly target: string; readonly typeOnly: boolean };

const importsOf = (file: string): Import[] => {
  const text = readFileSync(join(root, file), "utf8");
  const found: Import[] = [];
  for (const match of text.matchAll(/^(?:import|export)\s+(type\s)?(?:[^"';]*?from\s+)?"([^"]+)";/gm)) {
    const line = text.slice(0, match.index).split("\n").length;
    found.push({ file, line, target: match[2]!, typeOnly: match[1] !== undefined });
  }
  for (const match of text.matchAll(/\bimport\(\s*"([^"]+)"/g)) {
    found.push({ file, line: text.slice(0, match.index).split("\n").length, target: match[1]!, typeOnly: false });
  }
  return found;
};

/** The room of a file: `delay`, `adapters/redis`, … or "" for a file that stands in src itself. */
const roomOf = (file: string): string => {
  const parts = file.split("/").slice(1, -1);
  return parts[0] === "adapters" ? parts.slice(0, 2).join("/") : (parts[0] ?? "");
};

const localTarget = ({ file, target }: Import): string | undefined =>
  target.startsWith(".") ? relative(root, resolve(root, dirname(file), target)) : undefined;

const rooms = [
  "ingest",
  "delay",
  "dispatch",
  "index",
  "admin",
  "tx",
  "documents",
  "policies",
  "dependencies",
  "dead",
  "consumer",
];
/** Small pure nouns next to a port, which belong to it. */
const openBesidesPorts = new Set([
  "src/ingest/admit.ts",
  "src/tx/tx-error.ts",
  "src/tx/half/half-message.ts",
  "src/delay/record.ts",
  "src/dispatch/dispatch-metrics.ts",
]);

/** Undefined when the arrow is allowed; otherwise the rule it breaks. */
const ruleBroken = (from: string, target: string, typeOnly = false): string | undefined => {
  const to = roomOf(target);
  if (from === to || from === "") return undefined;
  if (from === "cli") return undefined;
  if (to === "") return "nothing imports the composition root; it imports the rooms";
  if (to === "message") return from === "sdk" && !typeOnly ? "the SDK takes only types from message" : undefined;
  if (from === "message") return "message is pure and knows no other room";
  if (from === "retry" && target !== "src/runtime/random.ts") return "retry knows only message and chance";
  if (to === "wire") return undefined;
  if (from === "wire") return "wire knows only message";
  if (from === "sdk") return "the SDK has no server dependencies: only wire";
  if (to === "protocol" && (from === "broker" || from === "adapters/rocketmq")) return undefined;
  if (from === "protocol") return "protocol knows only bytes";
  if (to === "runtime") return undefined;
  if (from === "runtime") return "runtime knows only message";
  if (to === "retry") return from === "broker" || from.startsWith("adapters/") ? "retry is for the rooms" : undefined;
  if (rooms.includes(to)) {
    return target.endsWith(".port.ts") || openBesidesPorts.has(target)
      ? undefined
      : `${from} may use only the ports (*.port.ts) of ${to}`;
  }
  if (to.startsWith("adapters/")) return "adapters are chosen in connect.ts; rooms know ports";
  return undefined;
};

const brokerRoomOf = (file: string): string => /^src\/broker\/(\w+)\//.exec(file)?.[1] ?? "";
/** What every room of the broker may speak of; they know no room themselves. */
const brokerNouns = new Set(
  ["broker-error", "broker-message", "java-hash", "names"].map((name) => `src/broker/${name}.ts`),
);

/** The same for the rooms of the embedded broker; src/broker/README.md has the picture. */
const brokerRuleBroken = (file: string, target: string): string | undefined => {
  const from = brokerRoomOf(file);
  const to = brokerRoomOf(target);
  if (!target.startsWith("src/broker/") || (from === to && from !== "")) return undefined;
  if (from === "files") return "files know nobody";
  if (brokerNouns.has(target)) return undefined;
  if (brokerNouns.has(file)) return "these nouns are for every room and know none";
  if (from === "storage") return to === "files" ? undefined : "storage knows files only, and no consumers";
  if (from === "delivery") {
    if (to === "") return "delivery knows of the rest of the broker only its nouns";
    return to === "storage" && target.endsWith(".port.ts") ? undefined : "delivery knows only the ports of storage";
  }
  if (from === "rpc") {
    const open = target === "src/broker/broker.port.ts" || (to === "delivery" && target.endsWith(".port.ts"));
    return open ? undefined : "rpc knows the broker by broker.port.ts";
  }
  return to === "rpc" || to === "files" ? "the broker itself knows neither gRPC nor files" : undefined;
};

describe("the arrows between the rooms", () => {
  it("all point the allowed way", () => {
    const broken = product.flatMap(importsOf).flatMap((found) => {
      const target = localTarget(found);
      const rule = target === undefined ? undefined : ruleBroken(roomOf(found.file), target, found.typeOnly);
      return rule === undefined ? [] : [`${found.file}:${found.line} imports ${target}: ${rule}`];
    });
    expect(broken).toEqual([]);
  });

  it("bites: the rule itself refuses what it should", () => {
    expect(ruleBroken("dispatch", "src/delay/loader.ts")).toMatch(/only the ports/);
    expect(ruleBroken("message", "src/runtime/clock.ts")).toMatch(/pure/);
    expect(ruleBroken("sdk", "src/message/errors.ts")).toMatch(/only types/);
    expect(ruleBroken("retry", "src/runtime/clock.ts")).toMatch(/chance/);
    expect(ruleBroken("retry", "src/wire/http.ts")).toMatch(/chance/);
    expect(ruleBroken("sdk", "src/message/errors.ts", true)).toBeUndefined();
    expect(ruleBroken("delay", "src/adapters/redis/redis-delay-store.ts")).toMatch(/connect/);
    expect(ruleBroken("dispatch", "src/delay/delay-store.port.ts")).toBeUndefined();
  });

  it("all point the allowed way inside the broker", () => {
    const broken = product
      .filter((file) => file.startsWith("src/broker/"))
      .flatMap(importsOf)
      .flatMap((found) => {
        const target = localTarget(found);
        const rule = target === undefined ? undefined : brokerRuleBroken(found.file, target);
        return rule === undefined ? [] : [`${found.file}:${found.line} imports ${target}: ${rule}`];
      });
    expect(broken).toEqual([]);
    expect(brokerRuleBroken("src/broker/storage/frame.ts", "src/broker/delivery/turn.ts")).toMatch(/files only/);
    expect(brokerRuleBroken("src/broker/delivery/turn.ts", "src/broker/storage/frame.ts")).toMatch(/ports/);
    expect(brokerRuleBroken("src/broker/delivery/turn.ts", "src/broker/catalog.ts")).toMatch(/nouns/);
    expect(brokerRuleBroken("src/broker/rpc/server.ts", "src/broker/local-broker.ts")).toMatch(/broker.port/);
    expect(brokerRuleBroken("src/broker/files/node-files.ts", "src/broker/broker-error.ts")).toMatch(/nobody/);
    expect(brokerRuleBroken("src/broker/catalog.ts", "src/broker/rpc/replies.ts")).toMatch(/neither/);
    expect(brokerRuleBroken("src/broker/names.ts", "src/broker/catalog.ts")).toMatch(/every room/);
  });

  it("lets each technology's packages into its own folder only", () => {
    const homes: Record<string, readonly string[]> = {
      ioredis: ["adapters/redis"],
      mysql2: ["adapters/mysql"],
      "@grpc/grpc-js": ["adapters/rocketmq", "broker"],
      "rocketmq-client-nodejs": ["adapters/rocketmq"],
      fastify: ["admin"],
      "@fastify/swagger": ["admin"],
      "@fastify/swagger-ui": ["admin"],
      typebox: ["admin"],
      pino: ["runtime"],
      "pino-pretty": ["runtime"],
      "prom-client": ["runtime"],
      commander: ["cli"],
    };
    const strays = product.flatMap(importsOf).flatMap(({ file, line, target }) => {
      if (target.startsWith(".") || target.startsWith("node:")) return [];
      const name = target
        .split("/")
        .slice(0, target.startsWith("@") ? 2 : 1)
        .join("/");
      return homes[name]?.includes(roomOf(file)) ? [] : [`${file}:${line} imports ${target}`];
    });
    expect(strays).toEqual([]);
  });
});

describe("calls with one home", () => {
  const banned: readonly { call: RegExp; instead: string; homes: readonly RegExp[] }[] = [
    {
      call: /\b(Date\.now\(|new Date\(\)|performance\.now\()/,
      instead: "the Clock you are given",
      homes: [/^src\/adapters\/system\//, /^src\/sdk\//, /^src\/cli\//],
    },
    {
      call: /\bMath\.random\(/,
      instead: "the Random you are given",
      homes: [/^src\/adapters\/system\//, /^src\/sdk\//],
    },
    {
      call: /\b(setTimeout|setInterval|setImmediate)\(/,
      instead: "Timers or Loop of runtime/",
      homes: [/^src\/adapters\/system\//, /^src\/sdk\//, /^src\/cli\//],
    },
    {
      call: /\bconsole\.\w+\(|process\.std(out|err)\.write\(/,
      instead: "the Log you are given",
      // What welcome.ts prints holds a program that prints.
      homes: [/^src\/cli\/output\.ts$/, /^src\/main\.ts$/, /^src\/welcome\.ts$/],
    },
  ];

  it.each(banned.map((rule) => [rule.call.source, rule] as const))("%s", (_, { call, instead, homes }) => {
    const strays = product
      .filter((file) => !homes.some((home) => home.test(file)))
      .flatMap((file) =>
        readFileSync(join(root, file), "utf8")
          .split("\n")
          .flatMap((text, i) =>
            call.test(text) && !/^\s*(\/\/|\*|\/\*)/.test(text)
              ? [`${file}:${i + 1} use ${instead}: ${text.trim()}`]
              : [],
          ),
      );
    expect(strays).toEqual([]);
  });
});

describe("files", () => {
  it("have names that say what they are: no barrels, no utils", () => {
    const vague = /(^|\/)(index|utils?|helpers?|common|misc|manager)\.ts$/;
    expect([...sources, ...filesBelow("test")].filter((file) => vague.test(file))).toEqual([]);
  });

  it("have no default exports", () => {
    const withDefault = product.filter((file) => /^export default/m.test(readFileSync(join(root, file), "utf8")));
    expect(withDefault).toEqual([]);
  });
});
