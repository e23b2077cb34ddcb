// Builds what the npm package carries: dist/, the JavaScript of the command line, of the server and of what `exports` in
// package.json names, with types. Needed for the package only, because Node runs no TypeScript below node_modules; a
// checkout and the container image run src/ as it is. `npm pack` calls this (prepack).
//
// What the compiler leaves to us: it rewrites `.ts` imports in the JavaScript but not in the declarations, and it does not
// know of files that are read at run time (Lua scripts). Only what the entries reach is compiled, so no test gets in.

import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { install, root } from "./install.mjs";

const dist = join(root, "dist");
const sources = join(root, "src");
const tsc = join(root, "node_modules/typescript/bin/tsc");

const filesBelow = (folder) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));

const compile = () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [tsc, "-p", join(root, "tsconfig.build.json")], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`The package does not compile:\n${stdout}${stderr}`);
};

/** Whatever is beside the code of a built folder and is not code: read at run time by its relative path. */
const copyAssets = () => {
  for (const file of filesBelow(sources)) {
    if (/\.(ts|md)$/.test(file)) continue;
    const target = join(dist, relative(sources, file));
    mkdirSync(dirname(target), { recursive: true });
    cpSync(file, target);
  }
};

const rewriteDeclaration = (file) => {
  const text = readFileSync(file, "utf8");
  writeFileSync(file, text.replace(/(\bfrom\s+|\bimport\(?\s*)"(\.[^"]*)\.ts"/g, '$1"$2.js"'));
};

/** An export or a thread that was not built, and a path to a source file, would be found by users only. */
const check = (files) => {
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const promised = Object.values(exports).flatMap((target) =>
    typeof target === "string" ? [target] : Object.values(target),
  );
  const problems = promised
    .filter((target) => !existsSync(join(root, target)))
    .map((target) => `package.json exports ${target}, which was not built; name its source in tsconfig.build.json`);
  for (const file of files) {
    const text = readFileSync(file, "utf8");
    const source = /["'`]\.{1,2}\/[^"'`\s]*(?<!\.d)\.ts["'`]/.exec(text);
    if (source !== null) problems.push(`${relative(root, file)} names the source file ${source[0]}`);
    // A thread's script is named by an address that ends as its parent does: new URL(`./x.${ending}`, import.meta.url).
    for (const [, thread] of text.matchAll(/new URL\(`(\.{1,2}\/[\w./-]+)\.\$\{/g)) {
      if (!existsSync(join(dirname(file), `${thread}.js`)))
        problems.push(`${relative(root, file)} starts ${thread}, which was not built; name it in tsconfig.build.json`);
    }
  }
  if (problems.length > 0) throw new Error(problems.join("\n"));
};

try {
  // Only where nothing is there: other programs may be running from what is installed, older than the lockfile or not.
  if (!existsSync(tsc)) install();
  rmSync(dist, { recursive: true, force: true });
  compile();
  copyAssets();
  const files = filesBelow(dist);
  for (const file of files) if (file.endsWith(".d.ts")) rewriteDeclaration(file);
  check(files.filter((file) => /\.(js|d\.ts)$/.test(file)));
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
