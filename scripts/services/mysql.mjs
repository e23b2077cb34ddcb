// A real MariaDB of our own: private port, own data folder, and a COMMIT that is on disk when it is answered.
// The service is called `mysql` because that is what clients speak to it; docker-compose.yml has MySQL itself.
// A MariaDB that the machine runs already is left alone: only Debian's `-core` packages are needed, which bring the
// programs and no service. Started by root (containers), mariadbd insists on being told `--user=root`.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { startInstance } from "./instance.mjs";
import { findProgram, requireProgram } from "./packages.mjs";
import { freePort } from "./ports.mjs";

const database = "escapement";
const answerMaxMs = 2_000;

/** What the outbox needs to be true: an answered COMMIT survives a kill -9. */
const settings = {
  "bind-address": "127.0.0.1",
  "skip-name-resolve": "1",
  innodb_flush_log_at_trx_commit: "1",
  innodb_buffer_pool_size: "256M",
  "character-set-server": "utf8mb4",
  max_allowed_packet: "64M", // a full batch of message bodies in one INSERT; the default of 16 MB refuses it
  max_connections: "500",
};

function configText(folder, ports, config) {
  const all = {
    ...settings,
    port: ports.port,
    datadir: join(folder, "data"),
    // Relative to the data folder: the path of a socket may have 107 characters, a run folder may have more.
    socket: "server.sock",
    "pid-file": "server.pid",
    "init-file": join(folder, "init.sql"),
    ...config,
  };
  return `[mariadbd]\n${Object.entries(all)
    .map(([key, value]) => `${key}=${value}\n`)
    .join("")}`;
}

/** The server's first packet, which it sends unasked: a greeting (protocol 10) or a refusal (255, code, text). */
function greeting(port) {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1" });
    const end = (act, value) => {
      clearTimeout(timer);
      socket.destroy();
      act(value);
    };
    const timer = setTimeout(() => end(reject, new Error(`no greeting within ${answerMaxMs} ms`)), answerMaxMs);
    socket.on("error", (error) => end(reject, error));
    socket.on("close", () => end(reject, new Error("connection closed before the greeting")));
    socket.on("data", (bytes) => {
      if (bytes[4] === 10) end(resolve);
      else end(reject, new Error(`the server refuses: ${bytes.toString("utf8", 7)}`));
    });
  });
}

/** Made aside and moved into place, so that what a killed initialisation left is never taken for a database. */
function initialiseOnce({ installDb }, folder, asUser) {
  const data = join(folder, "data");
  if (existsSync(data)) return;
  const draft = join(folder, "data.new");
  rmSync(draft, { recursive: true, force: true });
  try {
    execFileSync(
      installDb,
      [
        "--no-defaults",
        `--datadir=${draft}`,
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--skip-name-resolve",
        ...asUser,
      ],
      { cwd: folder, stdio: ["ignore", "pipe", "pipe"] },
    );
  } catch (error) {
    const said = `${error.stdout ?? ""}${error.stderr ?? error.message}`.trim().split("\n").slice(-8).join("\n");
    throw new Error(`${installDb} could not initialise ${draft}:\n${said}`);
  }
  renameSync(draft, data);
}

export const mysql = {
  service: "mysql",
  readyMaxMs: 60_000, // after a kill -9 it first goes through its log
  stopGraceMs: 15_000,
  roles: [{ role: "server", ports: (ports) => Object.values(ports), ready: (ports) => greeting(ports.port) }],
  choosePorts: async () => ({ port: await freePort() }),
  async requirements(say) {
    const wanted = {
      packages: ["mariadb-server-core", "mariadb-client-core"],
      advice: "Install MariaDB 10.6 or newer (older ones do not know SKIP LOCKED).",
      say,
    };
    const installDb = requireProgram("mariadb-install-db", wanted);
    requireProgram("my_print_defaults", wanted); // mariadb-install-db calls it, and Debian packs it with the client
    // Debian puts the server where only root's PATH looks.
    const server = findProgram("mariadbd") ?? findProgram("mariadbd", join(dirname(installDb), "../sbin"));
    if (server === undefined) throw new Error(`\`mariadbd\` was found neither on the PATH nor beside ${installDb}`);
    const version = execFileSync(server, ["--no-defaults", "--version"], { encoding: "utf8" }).match(
      /Ver (\d+)\.(\d+)/,
    );
    if (version === null || Number(version[1]) * 100 + Number(version[2]) < 1006)
      throw new Error(
        `${server} is version ${version?.slice(1).join(".") ?? "unknown"}; MariaDB 10.6 or newer is needed`,
      );
    return { installDb, server };
  },
  commands({ folder, ports, options, requirements }) {
    mkdirSync(folder, { recursive: true });
    const asUser = process.getuid?.() === 0 ? ["--user=root"] : [];
    initialiseOnce(requirements, folder, asUser);
    writeFileSync(
      join(folder, "init.sql"),
      `CREATE DATABASE IF NOT EXISTS ${database} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;\n`,
    );
    const file = join(folder, "my.cnf");
    writeFileSync(file, configText(folder, ports, options.config));
    return { server: { command: requirements.server, args: [`--defaults-file=${file}`, ...asUser] } };
  },
  address: (ports) => ({ url: `mysql://root@127.0.0.1:${ports.port}/${database}` }),
};

/**
 * One MariaDB server. `name` allows several in one run folder; `config` is raw my.cnf keys and values laid over ours
 * (`{ innodb_lock_wait_timeout: 1 }`).
 */
export function startMysql({ runDir, name, config, say } = {}) {
  return startInstance(mysql, { runDir, name, options: config === undefined ? {} : { config }, say });
}
