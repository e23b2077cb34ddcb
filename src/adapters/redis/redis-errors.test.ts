import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { redisFailure } from "./redis-errors.ts";

const canary = "canary-1b2c";
/** As the client throws it: with the whole command. */
const failure = (message: string, more: object = {}) =>
  Object.assign(new Error(message), { command: { name: "evalsha", args: [Buffer.from(canary), canary] }, ...more });

describe("a failure of Redis", () => {
  it.each([
    ["OOM command not allowed when used memory > 'maxmemory'.", "store_full"],
    ["READONLY You can't write against a read only replica.", "store_refusing"],
    ["MISCONF Redis is configured to save RDB snapshots", "store_refusing"],
    ["LOADING Redis is loading the dataset in memory", "store_refusing"],
    ["CLUSTERDOWN The cluster is down", "store_refusing"],
    ["NOREPLICAS Not enough good replicas to write.", "store_refusing"],
    ["NOAUTH Authentication required.", "store_refusing"],
    ["FENCED 12", "fenced"],
    ["Connection is closed.", "store_unavailable"],
    ["Command timed out", "store_unavailable"],
    ["Too many Cluster redirections. Last error: Error: x", "store_unavailable"],
    [`ERR unknown command 'x', with args beginning with: '${canary}'`, "internal"],
    [`WRONGTYPE Operation against a key ${canary}`, "internal"],
  ])("%s is %s, and carries nothing of the command", (message, code) => {
    const mapped = redisFailure(failure(message));
    expect(mapped.code).toBe(code);
    expect(mapped.cause).toBeUndefined();
    expect(inspect(mapped, { depth: 9, showHidden: true })).not.toContain(canary);
  });

  it("of the network says which, and of a Cluster what its last node said", () => {
    expect(redisFailure(failure("connect failed", { code: "ECONNREFUSED" })).message).toContain("ECONNREFUSED");
    const all = failure("Failed to refresh slots cache.", {
      lastNodeError: failure("NOAUTH Authentication required."),
    });
    expect(redisFailure(all).code).toBe("store_refusing");
  });
});
