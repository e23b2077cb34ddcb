import { inspect } from "node:util";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { killService, type RedisHandle, startAgain, startRedis } from "../../../scripts/services.mjs";
import type { StoreListener } from "../../delay/delay-store.port.ts";
import { at, StoreHands, t0 } from "../../delay/delay-store-hands.ts";
import type { DelayedMessage } from "../../message/message.ts";
import { durationMs } from "../../message/time.ts";
import { RedisDelayStore, type RedisDelayStoreOptions } from "./redis-delay-store.ts";
import { ownRunDir, storeOptions, unkindProxy } from "./testing.ts";

/** What breaks around the store, done to a Redis of our own: nothing may be lost, doubled or half-done. */
const { runDir, stop } = ownRunDir();
let handle: RedisHandle;
let admin: Redis;
const opened: RedisDelayStore[] = [];
const namespaces = new WeakMap<object, string>();

beforeAll(async () => {
  handle = await startRedis({ runDir });
  admin = new Redis(handle.url, { retryStrategy: () => 50, maxRetriesPerRequest: null });
  admin.on("error", () => {});
});
afterEach(async () => {
  for (const store of opened.splice(0)) await store.close();
});
afterAll(async () => {
  admin.disconnect();
  await stop();
});

const open = async (more: Partial<RedisDelayStoreOptions> = {}, address = handle.url) => {
  const options = { ...storeOptions(address), ...more };
  const store = await RedisDelayStore.open(options);
  opened.push(store);
  namespaces.set(store, options.namespace!);
  return store;
};
const handsOn = async (more: Partial<RedisDelayStoreOptions> = {}, address = handle.url): Promise<StoreHands> => {
  const store = await open(more, address);
  const hands = new StoreHands({ store, close: () => store.close() });
  await hands.own();
  return hands;
};
const eventually = { timeout: 10_000, interval: 20 };
const namespaceKeys = (namespace: string): Promise<string[]> => admin.keys(`${namespace}:{*`);

describe("the scripts", () => {
  it("come back after SCRIPT FLUSH, many calls at once", async () => {
    const hands = await handsOn();
    const messages = Array.from({ length: 50 }, () => hands.message());
    await hands.schedule(hands.message());
    await admin.script("FLUSH");
    await Promise.all(messages.map((message) => hands.schedule(message)));
    expect((await hands.near()).length).toBe(51);
  });
});

describe("the connection", () => {
  it("killed, fails what was under way as unknown and comes back by itself; asking again is safe", async () => {
    const hands = await handsOn();
    const messages = Array.from({ length: 300 }, () => hands.message());
    const calls = messages.map((message) => hands.scheduleOne(message, { onConflict: "keep" }));
    const settled = Promise.allSettled(calls);
    await admin.call("client", "kill", "type", "normal", "skipme", "yes");
    for (const result of await settled) {
      if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "store_unavailable" });
    }
    await vi.waitFor(() => hands.near(), eventually);
    for (const message of messages) await hands.scheduleOne(message, { onConflict: "keep" });
    expect((await hands.near()).sort()).toEqual(messages.map(({ id }) => id).sort());
  });

  it("frozen, is reported within the time limit", async () => {
    const hands = await handsOn({ commandTimeoutMs: 300 });
    await killService(handle, "SIGSTOP");
    try {
      await expect(hands.near()).rejects.toMatchObject({ code: "store_unavailable" });
    } finally {
      await killService(handle, "SIGCONT");
    }
    await vi.waitFor(() => hands.near(), eventually);
  });

  it("listens again after it was lost, and says that there was a gap", async () => {
    const hands = await handsOn();
    const heard = { wakes: 0, gaps: 0 };
    const listener: StoreListener = {
      onWake: () => {
        heard.wakes++;
      },
      onMembersChanged: () => {},
      onGap: () => {
        heard.gaps++;
      },
    };
    await hands.store.listen(listener);
    await admin.call("client", "kill", "type", "pubsub");
    await vi.waitFor(() => expect(heard.gaps).toBe(1), eventually);
    await vi.waitFor(async () => {
      await hands.scheduleOne(hands.message(), { wakeUntilMs: at(1) });
      expect(heard.wakes).toBeGreaterThan(0);
    }, eventually);
  });

  it("lost again while it listens again, goes on, and no promise is left to end the process", async () => {
    const proxy = await unkindProxy(handle.ports.port!);
    try {
      const hands = await handsOn({}, proxy.url);
      let wakes = 0;
      let gaps = 0;
      await hands.store.listen({ onWake: () => void wakes++, onMembersChanged: () => {}, onGap: () => void gaps++ });
      proxy.cutOn("subscribe");
      proxy.cut();
      await vi.waitFor(() => expect(proxy.cuts()).toBeGreaterThan(2), eventually);
      expect(gaps).toBe(0);
      proxy.cutOn(undefined);
      await vi.waitFor(() => expect(gaps).toBe(1), eventually);
      await hands.scheduleOne(hands.message(), { wakeUntilMs: at(1) });
      await vi.waitFor(() => expect(wakes).toBeGreaterThan(0), eventually);
    } finally {
      await proxy.close();
    }
  });

  it("P1: nothing that was acknowledged is gone after kill -9", async () => {
    const hands = await handsOn();
    const { incarnation } = await hands.store.check();
    const acknowledged: DelayedMessage[] = [];
    let isRunning = true;
    const accept = async (): Promise<void> => {
      while (isRunning) {
        const message = hands.message();
        try {
          await hands.scheduleOne(message, { onConflict: "keep" });
          acknowledged.push(message);
        } catch {
          return;
        }
      }
    };
    const workers = Array.from({ length: 16 }, accept);
    await vi.waitFor(() => expect(acknowledged.length).toBeGreaterThan(500), eventually);
    await killService(handle);
    isRunning = false;
    await Promise.all(workers);
    handle = await startAgain(handle);
    await vi.waitFor(() => hands.near(), eventually);
    const known = new Set(await hands.near());
    expect(acknowledged.filter(({ id }) => !known.has(id))).toEqual([]);
    expect((await hands.store.check()).incarnation).not.toBe(incarnation);
  });
});

describe("a reply that is swallowed after the script ran (R16)", () => {
  it("every verb may be asked again, and once is what happened", async () => {
    const proxy = await unkindProxy(handle.ports.port!);
    const options = { ...storeOptions(proxy.url), commandTimeoutMs: 250 };
    const store = await RedisDelayStore.open(options);
    const hands = new StoreHands({ store, close: () => store.close() });
    try {
      await hands.own();
      /** Does it once without hearing the answer, then again until it is heard. */
      const twice = async <T>(act: () => Promise<T>): Promise<T> => {
        proxy.swallow(true);
        await expect(act()).rejects.toMatchObject({ code: "store_unavailable" });
        proxy.cut();
        proxy.swallow(false);
        await vi.waitFor(() => store.heartbeat("here", durationMs(10_000)), eventually);
        return act();
      };
      const [a, b, c] = [hands.message(), hands.message(), hands.message({ key: "k" })];
      const accepted = await twice(() => store.schedule(hands.shard, [{ message: a }, { message: b }], t0));
      expect(accepted.map(({ state }) => state)).toEqual(["scheduled", "scheduled"]);
      await twice(() => hands.scheduleOne(c, { onConflict: "replace" }));
      expect((await hands.near()).sort()).toEqual([a.id, b.id, c.id].sort());

      expect(await twice(() => hands.reschedule(c, { deliverAtMs: at(50) }))).toMatchObject({ outcome: "done" });
      expect(await twice(() => hands.cancel(c))).toMatchObject({ outcome: "done", state: "canceled" });
      const { claimed } = await twice(() => hands.claim([a, b]));
      expect(claimed.map(({ id, attempt }) => [id, attempt])).toEqual([
        [a.id, 1],
        [b.id, 1],
      ]);
      await twice(() => hands.settle([{ kind: "retry", id: a.id, dueMs: at(9) }], at(1)));
      expect(await hands.get(a)).toMatchObject({ state: "scheduled", attempt: 1, deliverAtMs: at(9) });
      await twice(() => hands.settle([{ kind: "delivered", id: b.id }], at(1)));
      expect(await hands.state(b)).toBe("delivered");
      const epoch = hands.epoch;
      await twice(() => store.release(hands.shard, epoch, hands.owner));
      expect(await twice(() => store.acquire(hands.shard, "node-z", durationMs(60_000)))).toEqual({
        outcome: "acquired",
        epoch: epoch + 1,
      });
      const { waitingByTopic, claimed: out } = await store.stats(hands.shard, t0);
      expect([[...waitingByTopic], out]).toEqual([[["orders", 1]], 0]);
    } finally {
      await store.close();
      await proxy.close();
    }
  });
});

describe("out of memory (R21)", () => {
  afterEach(() => admin.config("SET", "maxmemory", "0"));

  it("P8: accepting is refused with nothing half-done, and everything that waits can still leave", async () => {
    const namespace = storeOptions(handle.url).namespace!;
    const hands = await handsOn({ namespace });
    const waiting = await Promise.all(Array.from({ length: 60 }, (_, i) => hands.scheduled({ deliverAtMs: at(i) })));
    const grouped = [1, 2, 3].map((i) => hands.grouped("g", { deliverAtMs: at(i) }));
    await hands.schedule(...grouped);
    const before = { stats: await hands.store.stats(hands.shard, t0), near: await hands.near() };
    await admin.config("SET", "maxmemory", "1");

    const refused = Array.from({ length: 100 }, () => hands.message({ key: "x" }));
    await expect(hands.schedule(...refused)).rejects.toMatchObject({ code: "store_full" });
    await expect(hands.scheduleOne(waiting[0]!, { onConflict: "replace" })).rejects.toMatchObject({
      code: "store_full",
    });
    const reason = { code: "x", detail: "y" };
    await expect(hands.store.bury(hands.shard, [{ message: refused[0]!, reason }], t0)).rejects.toMatchObject({
      code: "store_full",
    });
    expect({ stats: await hands.store.stats(hands.shard, t0), near: await hands.near() }).toEqual(before);
    expect((await hands.store.check()).problems).toEqual([]);

    // Drain to empty: cancel, claim, retry, give back, bury, deliver, renew, hand over.
    expect((await hands.cancel(waiting[0]!)).outcome).toBe("done");
    await hands.own("node-b");
    expect(await hands.store.renew([{ shard: hands.shard, epoch: hands.epoch }], "node-b", durationMs(60_000))).toEqual(
      [true],
    );
    expect((await hands.claim(waiting.slice(1, 4), at(100))).claimed).toHaveLength(3);
    await hands.own("node-c");
    expect(await hands.recover()).toBe(3);
    await hands.claim(waiting.slice(1, 4), at(100));
    await hands.giveBack(waiting[1]!);
    await hands.retry(waiting[2]!, at(70));
    await hands.buryClaimed(waiting[3]!);
    let delivered = 0;
    for (let ids = await hands.near(); ids.length > 0; ids = await hands.near()) {
      const { claimed } = await hands.claim(ids, at(100));
      await hands.settle(
        claimed.map(({ id }) => ({ kind: "delivered", id })),
        at(100),
      );
      delivered += claimed.length;
    }
    expect(delivered).toBe(61);
    const after = await hands.store.stats(hands.shard, t0);
    expect([after.waitingByTopic.size, after.claimed, after.dead]).toEqual([0, 0, 1]);
    // Of the due index nothing is left behind.
    expect((await namespaceKeys(namespace)).filter((key) => /\}:[bdghc]/.test(key))).toEqual([]);
  });
});

describe("a Redis that must not be trusted", () => {
  afterEach(async () => {
    await admin.config("SET", "maxmemory-policy", "noeviction");
    await admin.config("SET", "appendfsync", "always");
    await admin.config("SET", "appendonly", "yes");
  });

  it("R23: wrong settings are found while we run, and said", async () => {
    const store = await open();
    expect((await store.check()).problems).toEqual([]);
    await admin.config("SET", "maxmemory-policy", "allkeys-lru");
    expect((await store.check()).problems).toEqual(["maxmemory-policy is allkeys-lru, must be noeviction"]);
    await admin.config("SET", "maxmemory-policy", "noeviction");
    await admin.config("SET", "appendfsync", "everysec");
    expect((await store.check()).problems).toEqual(["appendfsync is everysec, must be always"]);
    const declared = await open({ durability: "everysec" });
    const { problems, warnings } = await declared.check();
    expect([problems, warnings.some((sentence) => sentence.includes("as declared"))]).toEqual([[], true]);
    await admin.config("SET", "appendonly", "no");
    expect((await store.check()).problems.join()).toContain("appendonly is off");
  });

  it("a user without CONFIG is warned, not refused", async () => {
    await admin.call("acl", "setuser", "plain", "on", ">pass", "~*", "&*", "+@all", "-config");
    const store = await open({}, handle.url.replace("redis://", "redis://plain:pass@"));
    const { problems, warnings } = await store.check();
    expect([problems, warnings.some((sentence) => sentence.startsWith("CONFIG GET is not allowed"))]).toEqual([
      [],
      true,
    ]);
  });

  it("a wrong password is refused at once, without repeating it", async () => {
    const failure = await open({}, handle.url.replace("redis://", "redis://plain:wrong-canary@")).catch((e) => e);
    expect(failure).toMatchObject({ code: "store_refusing" });
    expect(inspect(failure, { depth: 9, showHidden: true })).not.toContain("canary");
  });
});

describe("replicas", () => {
  let replica: RedisHandle;
  beforeAll(async () => {
    replica = await startRedis({
      runDir,
      name: "replica",
      config: { replicaof: `127.0.0.1 ${handle.ports.port}`, "repl-diskless-sync-delay": 0 },
    });
    await vi.waitFor(async () => expect(await admin.info("replication")).toContain("state=online"), {
      timeout: 20_000,
      interval: 50,
    });
  });
  afterAll(() => killService(replica, "SIGTERM"));

  it("R12: with waitReplicas an accepted message is on the replica before the answer", async () => {
    const hands = await handsOn({ waitReplicas: 1 });
    const copy = new Redis(replica.url);
    for (let i = 0; i < 20; i++) {
      if (i === 10) await admin.script("FLUSH");
      const message = await hands.scheduled();
      expect(await copy.hexists(`${keyspaceOf(hands)}r`, idBytesOf(message))).toBe(1);
    }
    copy.disconnect();
  });

  it("R13: a replica that does not confirm makes the outcome unknown, and asking again is safe", async () => {
    const hands = await handsOn({ waitReplicas: 1, waitReplicasMs: 200 });
    await killService(replica, "SIGSTOP");
    const message = hands.message();
    try {
      await expect(hands.scheduleOne(message, { onConflict: "keep" })).rejects.toMatchObject({
        code: "store_unavailable",
        message: expect.stringContaining("0 of 1 replicas"),
      });
    } finally {
      await killService(replica, "SIGCONT");
    }
    await vi.waitFor(() => hands.scheduleOne(message, { onConflict: "keep" }), eventually);
    expect(await hands.near()).toEqual([message.id]);
  });

  it("a replica itself refuses writes, and check says what it is", async () => {
    const seed = storeOptions(handle.url);
    const hands = await handsOn({ namespace: seed.namespace! });
    await hands.scheduled();
    const failure = await open({ namespace: seed.namespace! }, replica.url).catch((error) => error);
    expect(failure).toMatchObject({ code: "store_refusing", message: expect.stringContaining("READONLY") });
  });

  it("a primary that became a replica refuses, and check says so", async () => {
    const solo = await startRedis({ runDir, name: "demoted" });
    const hands = await handsOn({}, solo.url);
    const message = await hands.scheduled();
    const soloAdmin = new Redis(solo.url);
    await soloAdmin.call("replicaof", "127.0.0.1", String(handle.ports.port));
    await expect(hands.schedule(hands.message())).rejects.toMatchObject({ code: "store_refusing" });
    await expect(hands.cancel(message)).rejects.toMatchObject({ code: "store_refusing" });
    expect((await hands.store.check()).problems.join()).toContain("replica");
    soloAdmin.disconnect();
    await killService(solo, "SIGTERM");
  });
});

describe("errors", () => {
  const canary = "canary-8c1f";

  it("never carry a body, a name or a command", async () => {
    const proxy = await unkindProxy(handle.ports.port!);
    const hands = await handsOn({ commandTimeoutMs: 200 }, proxy.url);
    const message = hands.message({
      body: Buffer.from(canary),
      tag: canary,
      properties: new Map([[canary, canary]]),
    });
    const failures: unknown[] = [];
    const fail = async (act: () => Promise<unknown>): Promise<void> => {
      failures.push(
        await act().then(
          () => expect.unreachable("should have failed"),
          (error) => error,
        ),
      );
    };
    await hands.schedule(message);
    proxy.swallow(true);
    await fail(() => hands.schedule(message)); // timeout
    await fail(async () => {
      const call = hands.schedule(message);
      call.catch(() => {});
      proxy.cut();
      await call;
    }); // connection lost, or not connected
    proxy.swallow(false);
    await vi.waitFor(() => hands.near(), eventually);
    await admin.config("SET", "maxmemory", "1");
    await fail(() => hands.schedule(message)); // OOM
    await admin.config("SET", "maxmemory", "0");
    // A script that fails on what it finds: our own key in another type.
    await admin.del(`${keyspaceOf(hands)}r`);
    await admin.set(`${keyspaceOf(hands)}r`, canary);
    await fail(() => hands.schedule(message));
    expect(failures.map((error) => (error as { code: string }).code)).toEqual([
      "store_unavailable",
      "store_unavailable",
      "store_full",
      "internal",
    ]);
    for (const error of failures) {
      const whole = `${inspect(error, { depth: 20, showHidden: true })} ${JSON.stringify(error)} ${(error as Error).stack}`;
      expect(whole).not.toContain(canary);
      expect(whole).not.toContain(Buffer.from(canary).toString("hex"));
      expect((error as Error).cause).toBeUndefined();
    }
    await proxy.close();
  });
});

const keyspaceOf = (hands: StoreHands): string => `${namespaces.get(hands.store)}:{${hands.shard}}:`;
const idBytesOf = ({ id }: DelayedMessage): Buffer => Buffer.from(id.replaceAll("-", ""), "hex");
