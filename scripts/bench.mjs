// `npm run bench [-- --only http,dispatch --quick --json FILE --update-baseline --write-docs]`: installs, then hands
// over to bench/main.ts on the Node that the project runs on.

import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { install, nodeBinary, root } from "./install.mjs";

install();
const { status } = spawnSync(nodeBinary, [join(root, "bench/main.ts"), ...process.argv.slice(2)], {
  cwd: root,
  stdio: "inherit",
  env: { ...process.env, PATH: `${dirname(nodeBinary)}:${process.env.PATH}` },
});
process.exitCode = status ?? 1;
