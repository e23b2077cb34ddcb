import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { parseRedisAddress } from "./redis-address.ts";

describe("an address of Redis", () => {
  it("is one server, over TLS or not, or some nodes of a Cluster", () => {
    const plain = { isCluster: false, isTls: false, database: 0 };
    expect(parseRedisAddress("redis://h")).toEqual({ ...plain, nodes: [{ host: "h", port: 6379 }] });
    expect(parseRedisAddress("rediss://u:p%40ss@h:7000/3")).toEqual({
      ...plain,
      isTls: true,
      database: 3,
      username: "u",
      password: "p@ss",
      nodes: [{ host: "h", port: 7000 }],
    });
    expect(parseRedisAddress("redis://:only@[::1]:7000")).toEqual({
      ...plain,
      password: "only",
      nodes: [{ host: "::1", port: 7000 }],
    });
    expect(parseRedisAddress("redis+cluster://a:1,b:2").nodes).toEqual([
      { host: "a", port: 1 },
      { host: "b", port: 2 },
    ]);
  });

  it("is refused when it is something else, and its password is not repeated", () => {
    const wrong = ["", "http://h", "redis://", "redis://a,b", "redis://u:canary@h:99999", "redis+cluster://a/1"];
    for (const address of wrong) {
      try {
        parseRedisAddress(address);
        expect.unreachable(address);
      } catch (error) {
        expect(error).toMatchObject({ code: "invalid_config", field: "REDIS_URL" });
        expect(inspect(error)).not.toContain("canary");
      }
    }
  });
});
