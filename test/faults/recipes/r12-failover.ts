import { setTimeout as pause } from "node:timers/promises";
import { redisCommand } from "../../../scripts/services/redis-wire.mjs";
import { killService, startAgain } from "../../../scripts/services.mjs";
import { eventually, type Lab } from "../lab.ts";
import type { Recipe, RecipeOutcome } from "../recipe.ts";
import { standardDay } from "../standard-day.ts";
import { TcpProxy } from "../tcp-proxy.ts";

/**
 * The replica hangs on the primary by a line that can be held: what the primary has sent into it is gone for everybody
 * when the primary dies. The servers find the new primary through a proxy, as they would through a moved address.
 */
const failover = async (lab: Lab, waitReplicas: 0 | 1): Promise<RecipeOutcome> => {
  const primary = await lab.redis();
  const replication = await TcpProxy.open(primary.ports.port!);
  const address = await TcpProxy.open(primary.ports.port!);
  const replica = await lab.redis({ replicaof: `127.0.0.1 ${replication.port}` }, "replica");
  const replicaPort = replica.ports.port!;
  const inSync = await eventually(20_000, async () => {
    const info = await redisCommand(replicaPort, ["INFO", "replication"]);
    return info!.includes("master_link_status:up");
  });
  if (!inSync) throw new Error("the replica never got in sync");
  const environment = {
    REDIS_URL: `redis://127.0.0.1:${address.port}`,
    WAIT_REPLICAS: String(waitReplicas),
    LEASE_MS: "20000",
  };
  try {
    return await standardDay(lab, {
      servers: { a: environment, b: environment },
      quietWithinMs: waitReplicas === 1 ? 60_000 : 8_000,
      async strike() {
        const heldMs = Date.now();
        lab.faultBegins("the line to the replica hangs");
        replication.hold();
        await pause(lab.random.between(400, 800));
        lab.options.say("  kill -9 the primary, the replica becomes primary");
        await killService(primary);
        replication.cut();
        await redisCommand(replicaPort, ["REPLICAOF", "NO", "ONE"]);
        lab.allow({ name: "D5", fromMs: heldMs - 1_000, untilMs: Date.now() + 500, duplicatesMax: 4_096 });
        address.sendTo(replicaPort);
        address.cut();
        await startAgain(primary);
        await redisCommand(primary.ports.port!, ["REPLICAOF", "127.0.0.1", replicaPort]);
        await eventually(20_000, async () => (await lab.running[0]!.health())?.status === "ok");
        lab.faultEnds("the old primary follows the new one");
      },
    });
  } finally {
    await address.close();
    await replication.close();
  }
};

export const r12: Recipe = {
  name: "R12",
  title: "the primary Redis dies behind a hanging replication line and the replica takes over; WAIT_REPLICAS=1",
  expects: "0 lost; second copies only of what was recorded in that interval (D5)",
  run: (lab) => failover(lab, 1),
};

export const r12Control: Recipe = {
  name: "R12-control",
  title: "the same without waiting for the replica",
  expects: "accepted messages are lost: the oracle sees what WAIT_REPLICAS=1 prevents",
  control: true,
  async run(lab) {
    const { verdict, notes } = await failover(lab, 0);
    const failures = verdict!.lost > 0 ? [] : ["the control lost nothing, so this run says nothing about R12"];
    return { verdict: verdict!, failures, notes };
  },
};
