import { setTimeout as pause } from "node:timers/promises";
import type { Lab } from "../lab.ts";
import type { Recipe, RecipeOutcome } from "../recipe.ts";
import { standardDay } from "../standard-day.ts";
import { TcpProxy } from "../tcp-proxy.ts";

/** The servers reach Redis through a proxy that misbehaves several times during the load. */
const throughProxy = async (
  lab: Lab,
  misbehave: (proxy: TcpProxy) => Promise<void>,
  over: { readonly leaseMs: number; readonly onlyServerA?: boolean },
): Promise<RecipeOutcome> => {
  const redis = await lab.redis();
  const proxy = await TcpProxy.open(redis.ports.port!);
  const behind = { REDIS_URL: `redis://127.0.0.1:${proxy.port}`, LEASE_MS: String(over.leaseMs) };
  const other = over.onlyServerA === true ? { LEASE_MS: String(over.leaseMs) } : behind;
  try {
    return await standardDay(lab, {
      servers: { a: behind, b: other },
      strikeBetween: [0.15, 0.25],
      strike: () => misbehave(proxy),
    });
  } finally {
    await proxy.close();
  }
};

export const r16: Recipe = {
  name: "R16",
  title: "Redis runs the scripts and its replies vanish, five times during the load",
  expects: "nothing lost, not one second copy: every verb may be repeated, and a claim hands out the same again",
  async run(lab) {
    let swallowed = 0;
    const outcome = await throughProxy(
      lab,
      async (proxy) => {
        lab.faultBegins("replies of Redis vanish");
        for (let round = 0; round < 5; round++) {
          swallowed += await proxy.swallowReplies(lab.random.between(20, 200));
          await pause(lab.random.between(150, 500));
        }
        lab.faultEnds(`replies pass again; ${swallowed} bytes of them vanished`);
      },
      { leaseMs: 10_000 },
    );
    const failures = swallowed > 0 ? [] : ["void: no reply was swallowed"];
    return {
      ...outcome,
      failures: [...outcome.failures, ...failures],
      notes: { ...outcome.notes, swallowedBytes: swallowed },
    };
  },
};

export const r17: Recipe = {
  name: "R17",
  title: "connections to Redis are cut in the middle of a pipeline, at a random byte, ten times",
  expects: "nothing lost, not one second copy: what was half said is unknown, and nobody assumes otherwise",
  run: (lab) =>
    throughProxy(
      lab,
      async (proxy) => {
        lab.faultBegins("connections to Redis are cut");
        for (let round = 0; round < 10; round++) {
          proxy.cutAfter(lab.random.between(1, 20_000));
          await pause(lab.random.between(100, 300));
        }
        proxy.cut();
        lab.faultEnds("connections hold again");
      },
      { leaseMs: 10_000 },
    ),
};

export const r19: Recipe = {
  name: "R19",
  title: "one server's line to Redis goes dead in both directions for longer than its lease, without an error",
  expects: "it stops by its own clock before another owner begins; nothing lost, D4 only",
  run: (lab) =>
    throughProxy(
      lab,
      async (proxy) => {
        const fromMs = Date.now();
        lab.faultBegins("server a's line to Redis is dead");
        proxy.hold();
        await pause(6_000);
        proxy.letGo();
        lab.faultEnds("server a's line is alive");
        lab.allow({ name: "D4", fromMs: fromMs - 2_000, untilMs: Date.now() + 1_000, duplicatesMax: 8_192 });
      },
      { leaseMs: 3_000, onlyServerA: true },
    ),
};
