// A real Redis of our own: private port, own folder, and the settings on which the store's promises rest.
// Debian's service, if there is one, is left alone.

import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startInstance } from "./instance.mjs";
import { requireProgram } from "./packages.mjs";
import { freePort } from "./ports.mjs";
import { redisCommand } from "./redis-wire.mjs";

/** What the store needs to be true. An accept is acknowledged after the write is on disk, and nothing is ever evicted. */
const settings = {
  bind: "127.0.0.1",
  appendonly: "yes",
  appendfsync: "always",
  save: "",
  "maxmemory-policy": "noeviction",
  "zset-max-listpack-entries": "512",
  "enable-debug-command": "local", // fault tests freeze and slow it from inside
  daemonize: "no", // we keep the pid ourselves
};

function configText(folder, ports, config) {
  const all = { ...settings, port: ports.port, dir: JSON.stringify(join(folder, "data")) };
  if (ports.clusterBus !== undefined) {
    Object.assign(all, {
      "cluster-enabled": "yes",
      "cluster-port": ports.clusterBus,
      "cluster-announce-ip": "127.0.0.1",
      "cluster-config-file": "nodes.conf",
      "cluster-node-timeout": "5000", // a third of the default, so that a fault test sees a lost node soon; 1 s flapped on a busy machine
    });
  }
  Object.assign(all, config);
  return Object.entries(all)
    .map(([key, value]) => `${key} ${value === "" ? '""' : value}\n`)
    .join("");
}

export const redis = {
  service: "redis",
  readyMaxMs: 30_000, // an append-only file of a million messages is read back before the first answer
  stopGraceMs: 5_000,
  roles: [
    {
      role: "server",
      ports: (ports) => Object.values(ports),
      ready: async (ports) => {
        await redisCommand(ports.port, ["PING"]);
      },
    },
  ],
  async choosePorts(options) {
    const taken = new Set();
    const port = await freePort([0], taken);
    return options.cluster === true ? { port, clusterBus: await freePort([0], taken) } : { port };
  },
  async requirements(say) {
    const server = requireProgram("redis-server", {
      packages: ["redis-server"],
      advice: "Install Redis 7.0 or newer.",
      say,
    });
    const version = execFileSync(server, ["--version"], { encoding: "utf8" }).match(/v=(\d+)\.(\d+)/);
    if (version === null || Number(version[1]) < 7)
      throw new Error(`${server} is version ${version?.slice(1).join(".") ?? "unknown"}; Redis 7.0 or newer is needed`);
    return { server };
  },
  commands({ folder, ports, options, requirements }) {
    mkdirSync(join(folder, "data"), { recursive: true });
    const file = join(folder, "redis.conf");
    writeFileSync(file, configText(folder, ports, options.config));
    return { server: { command: requirements.server, args: [file] } };
  },
  address: (ports) => ({ url: `redis://127.0.0.1:${ports.port}` }),
};

/**
 * One Redis server. `name` allows several in one run folder; `config` is raw redis.conf keys and values laid over ours
 * (`{ maxmemory: "64mb" }`, `{ replicaof: "127.0.0.1 20123" }`).
 */
export function startRedis({ runDir, name, config, say } = {}) {
  return startInstance(redis, { runDir, name, options: config === undefined ? {} : { config }, say });
}
