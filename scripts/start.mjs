// `npm start`: installs what is missing, then serves. Without addresses in the environment everything is in this one
// process, an SQLite file and a broker for development; with REDIS_URL and ROCKETMQ_ENDPOINT it works on those.

import { spawn } from "node:child_process";
import { join } from "node:path";
import { install, nodeBinary, root } from "./install.mjs";

try {
  install();
  const server = spawn(nodeBinary, [join(root, "src/main.ts")], { stdio: "inherit" });
  // The terminal sends Ctrl-C to both; other signals come to us alone.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => server.kill("SIGTERM"));
  server.on("exit", (code, signal) => process.exit(signal === null ? (code ?? 1) : 1));
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
