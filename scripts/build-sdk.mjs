/**
 * Builds the client SDK as a package that others can install: `node scripts/build-sdk.mjs [FOLDER]`, by default into
 * dist/sdk. It compiles src/sdk/client.ts with all that it imports, and writes the package's own manifest.
 *
 * Two things the compiler leaves to us: it rewrites `.ts` imports in the JavaScript but not in the declarations, and it
 * emits JavaScript for server files of which the client imports only types. The second is also a check: the client
 * must run without them, so they are deleted, and whatever is left must import nothing but itself and Node.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, globSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Builds into `folder`, replacing what is there, and returns the folder. */
export const buildSdk = (folder = join(root, "dist", "sdk")) => {
  rmSync(folder, { recursive: true, force: true });
  compile(folder);
  for (const file of globSync("**/*.js", { cwd: folder })) {
    if (!file.startsWith(`sdk${sep}`)) rmSync(join(folder, file));
  }
  for (const file of globSync("**/*.d.ts", { cwd: folder })) rewriteDeclaration(join(folder, file));
  for (const file of globSync("**/*.js", { cwd: folder })) checkImports(folder, join(folder, file));
  writeFileSync(join(folder, "package.json"), `${JSON.stringify(manifest(), null, 2)}\n`);
  copyFileSync(join(root, "src", "sdk", "README.package.md"), join(folder, "README.md"));
  if (existsSync(join(root, "LICENSE"))) copyFileSync(join(root, "LICENSE"), join(folder, "LICENSE"));
  return folder;
};

const compile = (folder) => {
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  const project = join(root, "src", "sdk", "tsconfig.package.json");
  const { status, stdout, stderr } = spawnSync(process.execPath, [tsc, "-p", project, "--outDir", folder], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`The SDK does not compile:\n${stdout}${stderr}`);
};

const importPattern = /(\bfrom\s+|\bimport\()"([^"]+)"/g;

const rewriteDeclaration = (path) => {
  const text = readFileSync(path, "utf8");
  writeFileSync(
    path,
    text.replace(importPattern, (_, lead, target) => `${lead}"${target.replace(/^(\..*)\.ts$/, "$1.js")}"`),
  );
};

const checkImports = (folder, path) => {
  for (const [, , target] of readFileSync(path, "utf8").matchAll(importPattern)) {
    const fine = target.startsWith(".") ? existsSync(resolve(dirname(path), target)) : target.startsWith("node:");
    if (!fine) throw new Error(`${relative(folder, path)} imports ${target}, which the package does not have.`);
  }
};

const manifest = () => {
  const { version, license } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  return {
    name: "escapement-client",
    version,
    description: "Client for Escapement, a delay server for Apache RocketMQ.",
    license,
    keywords: ["rocketmq", "delay", "scheduler", "queue", "message"],
    type: "module",
    engines: { node: ">=20.3" },
    sideEffects: false,
    exports: { ".": { types: "./sdk/client.d.ts", default: "./sdk/client.js" }, "./package.json": "./package.json" },
    types: "./sdk/client.d.ts",
    files: ["sdk", "wire", "message"],
  };
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.stdout.write(`${buildSdk(process.argv[2] && resolve(process.argv[2]))}\n`);
}
