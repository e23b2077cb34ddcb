import { execFile, execFileSync, spawnSync } from "node:child_process";
import { globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ScriptedServer } from "./test/scripted-server.ts";

/**
 * The client as others get it: built, packed, installed into an empty folder and used from plain JavaScript and from
 * TypeScript. The package has no dependencies, so nothing is fetched.
 */
const root = fileURLToPath(new URL("../..", import.meta.url));
const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
let folder: string;
let installed: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "escapement-client-"));
  const built = join(folder, "built");
  execFileSync(process.execPath, [join(root, "scripts", "build-sdk.mjs"), built]);
  const npm = (args: string[], cwd: string): string =>
    execFileSync("npm", args, { cwd, encoding: "utf8", stdio: "pipe" });
  const [{ filename }] = JSON.parse(npm(["pack", "--json", "--pack-destination", folder], built));
  const app = join(folder, "app");
  mkdirSync(app);
  writeFileSync(join(app, "package.json"), '{ "private": true, "type": "module" }');
  npm(["install", "--offline", "--no-audit", "--no-fund", join(folder, filename)], app);
  installed = join(app, "node_modules", "escapement-client");
}, 60_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const write = (name: string, text: string): string => {
  const path = join(folder, "app", name);
  writeFileSync(path, text);
  return path;
};

describe("the client package", () => {
  it("has a licence, no dependencies, and no server code", () => {
    const manifest = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
    expect(manifest).toMatchObject({ name: "escapement-client", license: "Apache-2.0", type: "module" });
    expect(manifest).not.toHaveProperty("dependencies");
    expect(manifest).not.toHaveProperty("private");
    const scripts = globSync("**/*.js", { cwd: installed });
    expect(scripts).toContain("sdk/client.js");
    expect(scripts.every((path) => path.startsWith("sdk/"))).toBe(true);
    expect(globSync("**/*.ts", { cwd: installed, exclude: ["**/*.d.ts"] })).toEqual([]);
  });

  it("works from plain JavaScript", async () => {
    const server = await ScriptedServer.start();
    const program = write(
      "program.js",
      `import { EscapementClient, EscapementApiError } from "escapement-client";
       const client = new EscapementClient({ url: process.argv[2] });
       const { id } = await client.schedule({ topic: "orders", body: "hello", delay: "1h" });
       const seen = [];
       for await (const { error } of client.scheduleBatch([{ topic: "nope", body: "x", delay: 1 }])) seen.push(error);
       const again = await client.cancel(id);
       console.log(JSON.stringify([again.state, seen[0] instanceof EscapementApiError, seen[0].code]));`,
    );
    const output = await new Promise<string>((resolve, reject) => {
      execFile(process.execPath, [program, server.url], (error, stdout) => (error ? reject(error) : resolve(stdout)));
    });
    await server.stop();
    expect(JSON.parse(output)).toEqual(["canceled", true, "topic_not_found"]);
  });

  const check = (name: string, text: string, options: string[]): string => {
    const path = write(name, text);
    const flags = [
      "--noEmit",
      "--strict",
      "--exactOptionalPropertyTypes",
      "--target",
      "es2023",
      "--module",
      "nodenext",
    ];
    const { stdout } = spawnSync(process.execPath, [tsc, ...flags, ...options, path], {
      cwd: join(folder, "app"),
      encoding: "utf8",
    });
    return stdout;
  };

  const consumer = `
    import { EscapementApiError, EscapementClient, type MessageInput, type MessageReply } from "escapement-client";
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
    expect(check("web.ts", consumer, ["--lib", "es2023,dom,dom.iterable", "--types", ""])).toBe("");
  });

  it("type-checks in a Node project, declarations included", () => {
    mkdirSync(join(folder, "app", "node_modules", "@types"), { recursive: true });
    for (const name of ["@types/node", "undici-types"]) {
      symlinkSync(join(root, "node_modules", name), join(folder, "app", "node_modules", name));
    }
    expect(check("node.ts", consumer, ["--lib", "es2023", "--types", "node"])).toBe("");
  });

  it("refuses what the contract does not have, at compile time", () => {
    const wrong = `
      import { EscapementClient } from "escapement-client";
      const client = new EscapementClient();
      client.schedule({ topic: "t", body: "b" });
      client.schedule({ topic: "t", body: "b", delay: 1, deliverAt: 2 });
      client.schedule({ topic: "t", body: "b", json: 1, delay: 1 });
      client.schedule({ topic: "t", body: { a: 1 }, delay: 1 });
      client.waitFor("id", "finished");`;
    const lines = check("wrong.ts", wrong, ["--lib", "es2023,dom"]).match(/wrong\.ts\(\d+/g);
    expect(new Set(lines)).toEqual(new Set([4, 5, 6, 7, 8].map((line) => `wrong.ts(${line}`)));
  });

  it("does not let its inner files be imported", () => {
    const from = pathToFileURL(join(folder, "app", "x.js")).href;
    const script = `import { createRequire } from "node:module";
      try { createRequire(${JSON.stringify(from)}).resolve("escapement-client/sdk/transport.js"); console.log("open"); }
      catch (error) { console.log(error.code); }`;
    expect(execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" }).trim()).toBe(
      "ERR_PACKAGE_PATH_NOT_EXPORTED",
    );
  });
});
