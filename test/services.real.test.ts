// The scripts that start real services, tried on Redis, which is up in a tenth of a second, and MariaDB. RocketMQ's own start is
// exercised by every run of the real tests. Everything here happens in a run folder of its own.

import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createConnection, type RowDataPacket } from "mysql2/promise";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { redisCommand } from "../scripts/services/redis-wire.mjs";
import {
  killService,
  type MysqlHandle,
  type RedisHandle,
  startAgain,
  startMysql,
  startRedis,
  startRedisCluster,
  startServices,
  statusServices,
  stopServices,
} from "../scripts/services.mjs";

const script = fileURLToPath(new URL("../scripts/services.mjs", import.meta.url));

let runDir: string;
beforeAll(() => {
  runDir = mkdtempSync(join(tmpdir(), "services-test-"));
});
afterEach(async () => {
  await stopServices({ runDir });
});
afterAll(async () => {
  await stopServices({ runDir }); // when this fails the folder stays: without its state files nothing could stop the servers
  rmSync(runDir, { recursive: true, force: true });
});

interface Outcome {
  exitCode: number;
  stdout: string;
  stderr: string;
}

function run(args: string[], env: Record<string, string | undefined> = process.env): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(process.execPath, [script, ...args], { env }, (error, stdout, stderr) =>
      resolve({ exitCode: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}

const state = (instance: string): { processes: { role: string; pid: number; born: string }[] } =>
  JSON.parse(readFileSync(join(runDir, instance, "state.json"), "utf8"));

const ask = (handle: RedisHandle, ...words: string[]): Promise<string | null> =>
  redisCommand(handle.ports.port!, words);

describe("start", () => {
  test("what the command starts stays up after the command has ended, and a second start changes nothing", async () => {
    const first = await run(["start", "redis", "--json", "--run-dir", runDir]);
    expect(first).toMatchObject({ exitCode: 0, stderr: "" });
    const pid = state("redis").processes[0]!.pid;
    const second = await run(["start", "redis", "--json", "--run-dir", runDir]);
    expect(second).toEqual(first);
    expect(state("redis").processes[0]!.pid).toBe(pid);
    const url = new URL(JSON.parse(first.stdout).redis.url);
    expect(await redisCommand(Number(url.port), ["PING"])).toBe("PONG");
  });

  test("three starts at the same moment start one server", async () => {
    const answers = await Promise.all([1, 2, 3].map(() => startServices({ names: ["redis"], runDir })));
    expect(new Set(answers.map((one) => one.redis?.url)).size).toBe(1);
    expect(await ask(await startRedis({ runDir }), "PING")).toBe("PONG");
    expect(readdirSync(join(runDir, "redis")).filter((name) => name.startsWith("lock"))).toEqual([]);
  });

  test("Redis runs with the settings on which the store's promises rest", async () => {
    const redis = await startRedis({ runDir });
    const info = await ask(redis, "INFO");
    expect(info).toMatch(/aof_enabled:1\r/);
    expect(info).toMatch(/maxmemory_policy:noeviction\r/);
    // CONFIG GET answers a list, which the small protocol here does not read; DEBUG proves itself by working.
    const written = readFileSync(join(runDir, "redis", "redis.conf"), "utf8");
    expect(written).toContain("appendfsync always\n");
    expect(written).toContain("zset-max-listpack-entries 512\n");
    expect(await ask(redis, "DEBUG", "SLEEP", "0")).toBe("OK");
  });

  test("a running instance is not quietly returned when other settings are asked for", async () => {
    await startRedis({ runDir, name: "small", config: { maxmemory: "64mb" } });
    await startRedis({ runDir, name: "small", config: { maxmemory: "64mb" } });
    await expect(startRedis({ runDir, name: "small", config: { maxmemory: "65mb" } })).rejects.toThrow(
      /already runs .* with other settings/,
    );
  });

  test("a start that fails repeats what the server said", async () => {
    await expect(startRedis({ runDir, name: "broken", config: { "no-such-key": "1" } })).rejects.toThrow(/no-such-key/);
  });

  test("a remembered port that somebody else took meanwhile is left to them", async () => {
    const before = await startRedis({ runDir, name: "moved" });
    await stopServices({ runDir });
    const squatter = createServer().listen(before.ports.port, "127.0.0.1");
    await once(squatter, "listening");
    try {
      await expect(startAgain(before)).rejects.toThrow(/taken by another program/);
      const after = await startRedis({ runDir, name: "moved" });
      expect(after.ports.port).not.toBe(before.ports.port);
      expect(await ask(after, "PING")).toBe("PONG");
    } finally {
      squatter.close();
    }
  });
});

describe("stop and faults", () => {
  test("ends a frozen server too, keeps its data and gives the same address back", async () => {
    const before = await startRedis({ runDir, name: "frozen" });
    await ask(before, "SET", "kept", "yes");
    await killService(before, "SIGSTOP");
    expect(await stopServices({ runDir })).toContain("redis-frozen");
    const after = await startRedis({ runDir, name: "frozen" });
    expect(after.url).toBe(before.url);
    expect(await ask(after, "GET", "kept")).toBe("yes");
  });

  test("a lock left by a dead starter does not block", async () => {
    const folder = join(runDir, "redis");
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "lock"), JSON.stringify({ pid: process.pid, born: "before a reboot", token: "dead" }));
    await startServices({ names: ["redis"], runDir });
  });

  test("a killed server comes back on the same port with every acknowledged write", async () => {
    const before = await startRedis({ runDir });
    await ask(before, "SET", "acknowledged", "yes");
    await killService(before);
    expect(statusServices({ names: ["redis"], runDir })[0]?.condition).toBe("stopped");
    const after = await startAgain(before);
    expect(after.ports).toEqual(before.ports);
    expect(after.pids.server).not.toBe(before.pids.server);
    expect(await ask(after, "GET", "acknowledged")).toBe("yes");
  });

  test("three masters form a cluster, lose one, and are whole again when it returns", async () => {
    const cluster = await startRedisCluster({ runDir });
    expect(new Set(cluster.urls).size).toBe(3);
    const [first, second] = cluster.nodes as [RedisHandle, RedisHandle];
    // Slot 0 lies with the first node, the key "foo" (slot 12182) with the third: each node must say so.
    await expect(ask(first, "SET", "foo", "1")).rejects.toThrow(
      `MOVED 12182 127.0.0.1:${cluster.nodes[2]!.ports.port}`,
    );
    await killService(second);
    await startAgain(second);
    const again = await startRedisCluster({ runDir });
    expect(again.urls).toEqual(cluster.urls);
    expect(await ask(second, "CLUSTER", "INFO")).toContain("cluster_state:ok");
  });
});

describe("MariaDB", () => {
  const query = async (handle: MysqlHandle, ...statements: string[]): Promise<RowDataPacket[]> => {
    const connection = await createConnection({ uri: handle.url });
    try {
      let rows: unknown = [];
      for (const statement of statements) [rows] = await connection.query(statement);
      return rows as RowDataPacket[];
    } finally {
      connection.destroy();
    }
  };

  test("a killed server comes back on the same port with every answered COMMIT, and without the others", async () => {
    const before = await startMysql({ runDir });
    await query(before, "CREATE TABLE kept (id INT PRIMARY KEY) ENGINE=InnoDB");
    await query(before, "BEGIN", "INSERT INTO kept VALUES (1)", "COMMIT", "BEGIN", "INSERT INTO kept VALUES (2)");
    await killService(before);
    const after = await startAgain(before);
    expect(after).toMatchObject({ url: before.url, ports: before.ports });
    expect(after.pids.server).not.toBe(before.pids.server);
    expect(await query(after, "SELECT id FROM kept")).toEqual([{ id: 1 }]);
    await stopServices({ runDir });
    expect(await query(await startMysql({ runDir }), "SELECT id FROM kept")).toEqual([{ id: 1 }]);
  });

  test("what a killed initialisation left is not taken for a database, and settings are laid over ours", async () => {
    const draft = join(runDir, "mysql-torn", "data.new");
    mkdirSync(draft, { recursive: true });
    writeFileSync(join(draft, "ibdata1"), "torn");
    const mysql = await startMysql({ runDir, name: "torn", config: { innodb_lock_wait_timeout: 7 } });
    expect(
      await query(mysql, "SELECT @@innodb_lock_wait_timeout AS waits, @@innodb_flush_log_at_trx_commit AS flushes"),
    ).toEqual([{ waits: 7, flushes: 1 }]);
    await expect(startMysql({ runDir, name: "torn", config: { innodb_lock_wait_timeout: 8 } })).rejects.toThrow(
      /already runs .* with other settings/,
    );
  });

  test("a start that fails repeats what the server said", async () => {
    await expect(startMysql({ runDir, name: "broken", config: { no_such_key: 1 } })).rejects.toThrow(/no.such.key/);
  });
});
