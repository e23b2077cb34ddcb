// Something that takes long to build and depends on little: built once per content, by one process at a time, below
// the run folder's cache. A build that failed leaves nothing behind.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { withLock } from "../../../scripts/services/lock.mjs";

const cache = fileURLToPath(new URL("../../../.run/cache/conformance", import.meta.url));

function keyOf(files, also) {
  const hash = createHash("sha256");
  for (const file of [...files].sort()) hash.update(readFileSync(file)).update("\0");
  for (const text of also) hash.update(text).update("\0");
  return hash.digest("hex").slice(0, 16);
}

/**
 * The folder that `build(folder)` filled, now or earlier. The build depends on the content of `files` and on the texts
 * in `also`, such as the compiler's version.
 */
export async function builtOnce({ name, files, also, build }) {
  const folder = join(cache, `${name}-${keyOf(files, also)}`);
  if (existsSync(folder)) return folder;
  return withLock(join(cache, `${name}.building`), async () => {
    if (existsSync(folder)) return folder;
    const partial = `${folder}.partial`;
    rmSync(partial, { recursive: true, force: true });
    mkdirSync(partial);
    try {
      await build(partial);
    } catch (error) {
      rmSync(partial, { recursive: true, force: true });
      throw error;
    }
    renameSync(partial, folder); // only a complete folder ever gets the name
    return folder;
  });
}
