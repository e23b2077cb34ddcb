import { describe, expect, it } from "vitest";
import { epochMs } from "../../message/time.ts";
import { judgeNode } from "./redis-health.ts";

const good = {
  redis_version: "7.0.15",
  role: "master",
  aof_enabled: "1",
  aof_last_write_status: "ok",
  maxmemory_policy: "noeviction",
  used_memory: "10",
  maxmemory: "100",
  connected_slaves: "0",
  evicted_keys: "0",
};
const judge = (info: Partial<typeof good> = {}, config: Record<string, string> | null = {}, waitReplicas = 0) =>
  judgeNode(
    {
      timeMs: epochMs(0),
      roundTripMs: 1,
      info: new Map(Object.entries({ ...good, ...info })),
      config:
        config === null
          ? undefined
          : new Map(Object.entries({ appendfsync: "always", "zset-max-listpack-entries": "128", ...config })),
    },
    { durability: "always", waitReplicas },
  );

describe("what a node's settings are worth", () => {
  it("nothing is wrong with a good one", () => {
    expect(judge()).toEqual({ problems: [], warnings: [] });
  });

  it.each([
    ["appendonly is off", { aof_enabled: "0" }, {}, 0],
    ["last write", { aof_last_write_status: "err" }, {}, 0],
    ["appendfsync is everysec", {}, { appendfsync: "everysec" }, 0],
    ["appendfsync is no", {}, { appendfsync: "no" }, 0],
    ["noeviction", { maxmemory_policy: "volatile-ttl" }, {}, 0],
    ["replica", { role: "slave" }, {}, 0],
    ["7.0 or newer", { redis_version: "6.2.14" }, {}, 0],
    ["2 must confirm", { connected_slaves: "1" }, {}, 2],
  ])("a problem: %s", (words, info, config, waitReplicas) => {
    const { problems } = judge(info, config, waitReplicas);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(words);
  });

  it.each([
    ["86 %", { used_memory: "86" }, {}],
    ["maxmemory is not set", { maxmemory: "0" }, {}],
    ["evicted 3", { evicted_keys: "3" }, {}],
    ["zset-max-listpack-entries", {}, { "zset-max-listpack-entries": "64" }],
    ["CONFIG GET is not allowed", {}, null],
  ])("a warning: %s", (words, info, config) => {
    const { problems, warnings } = judge(info, config);
    expect([problems, warnings.length]).toEqual([[], 1]);
    expect(warnings[0]).toContain(words);
  });
});
