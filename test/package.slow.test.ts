import { execFile, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { ScriptedServer } from "../src/sdk/test/scripted-server.ts";
import { consumeAll } from "./rocketmq-consumer.ts";

/**
 * The package as others get it: packed, installed into an empty folder outside of the repository, and used from there.
 * `npm pack` builds it first (prepack); its dependencies come from the registry that this machine uses, or npm's cache.
 */
const root = join(import.meta.dirname, "..");
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const tsc = join(root, "node_modules", "typescript", "bin", "tsc");

let folder: string;
let app: string;
let installed: string;

const npm = (args: readonly string[], cwd: string): string =>
  execFileSync("npm", args, { cwd, encoding: "utf8", stdio: "pipe" });

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "escapement-package-"));
  app = join(folder, "app");
  mkdirSync(app);
  const [{ filename }] = JSON.parse(npm(["pack", "--json", "--pack-destination", folder], root));
  npm(["install", "--prefer-offline", "--no-audit", "--no-fund", join(folder, filename)], app);
  installed = join(app, "node_modules", "escapement");
}, 180_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const write = (name: string, text: string): string => {
  const path = join(app, name);
  writeFileSync(path, text);
  return path;
};

type Output = { readonly exitCode: number; readonly stdout: string; readonly stderr: string };

/** Runs a program in the folder that installed the package; nothing is set that would configure the service. */
const run = (command: string, ...args: string[]): Promise<Output> => {
  const { PATH, HOME } = process.env;
  return new Promise((resolve) => {
    execFile(command, args, { cwd: app, env: { PATH, HOME, NO_COLOR: "1" } }, (error, stdout, stderr) =>
      resolve({ exitCode: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
};

describe("the package", () => {
  it("carries what runs, its types and its Lua scripts: no sources, no tests, no development dependencies", () => {
    const files = globSync("**/*", { cwd: installed, exclude: ["**/node_modules/**"], withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(installed.length + 1));
    const strays = files.filter(
      (file) => !/^(dist\/.*\.(js|d\.ts|lua)|bin\/escapement\.mjs|LICENSE|README\.md|package\.json)$/.test(file),
    );
    expect(strays).toEqual([]);
    expect(files.filter((file) => /test|contract|fake/.test(file))).toEqual([]);
    const scripts = globSync("**/*.lua", { cwd: join(root, "src") });
    expect(files).toEqual(expect.arrayContaining(scripts.map((file) => `dist/${file}`)));
    expect(existsSync(join(app, "node_modules", "vitest"))).toBe(false);
  });

  it("keeps its inner files to itself", async () => {
    const program = `import("escapement/dist/sdk/transport.js").catch((error) => console.log(error.code));`;
    const { stdout } = await run("node", "--input-type=module", "--eval", program);
    expect(stdout.trim()).toBe("ERR_PACKAGE_PATH_NOT_EXPORTED");
  });
});

/** The installed command as a process that goes on, without npx around it, which would not hand signals on. */
const start = (env: Record<string, string>, ...args: string[]) => {
  const { PATH, HOME } = process.env;
  const child = spawn(process.execPath, [join(installed, "bin", "escapement.mjs"), ...args], {
    cwd: app,
    env: { PATH, HOME, NO_COLOR: "1", ...env },
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (part) => (said += part));
  const ended = once(child, "exit").then(([exitCode]) => exitCode as number | null);
  return {
    ended,
    async untilSaid(words: string) {
      const wait = () => {
        if (!said.includes(words)) throw new Error(`not said: ${words}; but:\n${said}`);
      };
      await vi.waitFor(wait, { timeout: 20_000, interval: 50 });
    },
    stop() {
      child.kill("SIGTERM");
      return ended;
    },
  };
};

const freeAddress = async (): Promise<string> => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return `127.0.0.1:${port}`;
};

describe("the installed command", () => {
  it("shows its help and its version", async () => {
    const help = await run("npx", "escapement", "--help");
    expect(help).toMatchObject({ exitCode: 0 });
    expect(help.stdout).toMatch(/^Usage: escapement /);
    for (const command of ["serve", "schedule", "cancel", "topics"]) expect(help.stdout).toContain(command);
    expect((await run("npx", "escapement", "--version")).stdout.trim()).toBe(manifest.version);
  });

  it("serves with nothing else installed: SQLite, the broker, and a message that arrives", async () => {
    const [http, broker] = [await freeAddress(), await freeAddress()];
    const server = start({ HTTP_ADDR: http, BROKER_ADDR: broker, DATA_DIR: join(folder, "data") }, "serve");
    const received: string[] = [];
    try {
      await server.untilSaid("listening");
      const onMessage = ({ body }: { readonly body: Buffer }) => void received.push(body.toString());
      const consuming = await consumeAll({ endpoint: broker, topic: "demo", group: "witness", onMessage });
      const reply = await fetch(`http://${http}/v1/messages`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ topic: "demo", body: "hello", delay: 500 }),
      });
      expect(reply.status).toBe(201);
      await vi.waitFor(() => expect(received).toEqual(["hello"]), { timeout: 20_000, interval: 50 });
      await consuming.stop();
    } finally {
      await server.stop();
    }
    expect(await server.ended).toBe(0);
  });

  it("loads what talks to Redis and RocketMQ, and says that nobody is there", async () => {
    const env = { REDIS_URL: `redis://${await freeAddress()}`, ROCKETMQ_ENDPOINT: await freeAddress() };
    const server = start({ ...env, HTTP_ADDR: await freeAddress() }, "serve");
    await server.untilSaid("Redis");
    expect(await server.ended).toBe(1);
  });

  it("tells an older Node in one line what it needs", async () => {
    const bin = join(installed, "bin", "escapement.mjs");
    const pretend = `data:text/javascript,Object.defineProperty(process,"versions",{value:{...process.versions,node:"20.19.5"}})`;
    const pretended = await run("node", "--import", pretend, bin, "--help");
    expect(pretended).toMatchObject({ exitCode: 2, stdout: "" });
    expect(pretended.stderr).toMatch(/^escapement needs Node 22\.18 or newer; this is v\S+\n$/);
    // Where an older Node is really there, it must also get so far as to say so.
    for (const older of olderNodes()) {
      const { exitCode, stderr } = await run(older, bin, "--help");
      expect({ exitCode, stderr }).toEqual({
        exitCode: 2,
        stderr: expect.stringMatching(/^escapement needs Node 22\.18 or newer; this is v\d+\.\d+\.\d+\.\n$/),
      });
    }
  });
});

/** Every Node on the PATH that is too old for the service; often none. */
const olderNodes = (): string[] =>
  (process.env.PATH ?? "")
    .split(delimiter)
    .map((place) => join(place, "node"))
    .filter((node) => {
      const { status, stdout } = spawnSync(node, ["--version"], { encoding: "utf8" });
      const [major, minor] = status === 0 ? stdout.slice(1).split(".").map(Number) : [Number.NaN];
      return major! < 22 || (major === 22 && minor! < 18);
    });

/** What the compiler says about a program that uses the package. */
const check = (name: string, text: string, options: readonly string[]): string => {
  const flags = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--target", "es2023", "--module", "nodenext"];
  const { stdout } = spawnSync(process.execPath, [tsc, ...flags, ...options, write(name, text)], {
    cwd: app,
    encoding: "utf8",
  });
  return stdout;
};

/** Types of Node for programs that say so; what our dependencies bring counts too. */
const nodeTypes = (): readonly string[] => {
  const types = join(app, "node_modules", "@types");
  mkdirSync(types, { recursive: true });
  for (const [name, place] of [
    ["@types/node", join(types, "node")],
    ["undici-types", join(app, "node_modules", "undici-types")],
  ] as const) {
    if (!existsSync(place)) symlinkSync(join(root, "node_modules", name), place);
  }
  return ["--types", "node"];
};

describe("the broker, imported from the package", () => {
  const program = `
    import { type RunningBroker, type StartBrokerOptions, startBroker } from "escapement/broker";
    const options: StartBrokerOptions = { port: 0 };
    await using broker: RunningBroker = await startBroker(options);
    await broker.createTopic("orders", { type: "FIFO" });
    console.log(broker.endpoint);`;

  it("runs in a program's own process, which ends when it is stopped", async () => {
    const path = write("broker.mts", program); // Outside of node_modules Node strips the types itself.
    const fromMs = performance.now();
    const { exitCode, stdout } = await run("node", path);
    expect(stdout).toMatch(/^127\.0\.0\.1:\d+\n$/);
    expect(exitCode).toBe(0);
    expect(performance.now() - fromMs).toBeLessThan(6_000); // half a second here; nothing of it may linger
  });

  it("type-checks, declarations included", () => {
    expect(check("broker.mts", program, ["--lib", "esnext", ...nodeTypes()])).toBe("");
  });
});

describe("the retrying consumer, imported from the package", () => {
  const program = `
    import { EscapementConsumerError, type HandlerContext, startConsumer, ThrottledError } from "escapement/consumer";
    const handler = (message: { value: { n: number } }, context: HandlerContext<{ n: number }>) => {
      if (message.value.n > 5) throw new ThrottledError("30s");
      return context.snooze("5m");
    };
    const decode = (body: Buffer): { n: number } => JSON.parse(body.toString());
    const options = { endpoint: "127.0.0.1:1", url: null, group: "g", topic: "t", decode };
    const error = await startConsumer(options, handler).catch((thrown: unknown) => thrown);
    console.log(error instanceof EscapementConsumerError && error.code);`;

  it("says why it cannot start, and the process ends", async () => {
    const { exitCode, stdout } = await run("node", write("consumer.mts", program));
    expect([stdout, exitCode]).toEqual(["broker_unavailable\n", 0]);
  });

  it("type-checks, declarations included", () => {
    expect(check("consumer.mts", program, ["--lib", "esnext", ...nodeTypes()])).toBe("");
  });
});

describe("the SDK, imported from the package", () => {
  it("works from plain JavaScript", async () => {
    const server = await ScriptedServer.start();
    const program = write(
      "program.mjs",
      `import { EscapementClient, EscapementApiError } from "escapement";
       const client = new EscapementClient({ url: process.argv[2] });
       const { id } = await client.schedule({ topic: "orders", body: "hello", delay: "1h" });
       const seen = [];
       for await (const { error } of client.scheduleBatch([{ topic: "nope", body: "x", delay: 1 }])) seen.push(error);
       const again = await client.cancel(id);
       console.log(JSON.stringify([again.state, seen[0] instanceof EscapementApiError, seen[0].code]));`,
    );
    const { stdout } = await run("node", program, server.url);
    await server.stop();
    expect(JSON.parse(stdout)).toEqual(["canceled", true, "topic_not_found"]);
  });

  it("loads nothing but itself: no server, no dependency", () => {
    const loaded = new Set<string>();
    const follow = (path: string): void => {
      if (loaded.has(path)) return;
      loaded.add(path);
      for (const [, target] of readFileSync(path, "utf8").matchAll(/(?:\bfrom\s+|\bimport\s*\(?\s*)"([^"]+)"/g)) {
        if (target!.startsWith(".")) follow(join(path, "..", target!));
        else expect(target).toMatch(/^node:/);
      }
    };
    follow(join(installed, manifest.exports["."].default));
    expect([...loaded].filter((path) => !path.includes("/dist/sdk/"))).toEqual([]);
    expect(loaded.size).toBeGreaterThan(3);
  });

  const consumer = `
    import { EscapementApiError, EscapementClient, type MessageInput, type MessageReply } from "escapement";
    const client = new EscapementClient({ timeoutMs: 5_000, retry: { maxAttempts: 2 } });
    const message: MessageInput = { topic: "orders", json: { a: 1 }, deliverAt: new Date(), tag: "t" };
    export const run = async (signal: AbortSignal): Promise<string | undefined> => {
      const reply: MessageReply = await client.schedule(message, { signal, idempotent: false });
      for await (const result of client.scheduleBatch([message])) {
        if (result.error) console.log(result.error.code, result.error.field);
        else console.log(result.message.id);
      }
      const found = await client.waitFor({ key: "k", messageGroup: "g" }, ["delivered", "dead"]);
      try {
        await client.reschedule(reply.id, { delay: "1h", expireAfter: null });
      } catch (error) {
        if (error instanceof EscapementApiError && error.code === "too_late") return error.effect;
      }
      return found.body && new TextDecoder().decode(found.body);
    };`;

  it("type-checks in a browser-like project, declarations included", () => {
    expect(check("web.mts", consumer, ["--lib", "es2023,dom,dom.iterable", "--types", ""])).toBe("");
  });

  it("type-checks in a Node project, declarations included", () => {
    expect(check("node.mts", consumer, ["--lib", "es2023", ...nodeTypes()])).toBe("");
  });

  it("refuses what the contract does not have, at compile time", () => {
    const wrong = `
      import { EscapementClient } from "escapement";
      const client = new EscapementClient();
      client.schedule({ topic: "t", body: "b" });
      client.schedule({ topic: "t", body: "b", delay: 1, deliverAt: 2 });
      client.schedule({ topic: "t", body: "b", json: 1, delay: 1 });
      client.schedule({ topic: "t", body: { a: 1 }, delay: 1 });
      client.waitFor("id", "finished");`;
    const lines = check("wrong.mts", wrong, ["--lib", "es2023,dom"]).match(/wrong\.mts\(\d+/g);
    expect(new Set(lines)).toEqual(new Set([4, 5, 6, 7, 8].map((line) => `wrong.mts(${line}`)));
  });
});
