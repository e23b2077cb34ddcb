// A real Redis Cluster on one machine: masters only, each owning an even share of the 16384 slots.
// Starting it again finds it as it was: each node keeps its port, its data and its knowledge of the others.

import { setTimeout as pause } from "node:timers/promises";
import { startInstance } from "./instance.mjs";
import { redis } from "./redis.mjs";
import { redisCommand } from "./redis-wire.mjs";

const slots = 16_384;
const agreeMaxMs = 30_000; // 2 s measured for three masters; gossip is slow on a busy machine

async function clusterInfo(port) {
  const text = await redisCommand(port, ["CLUSTER", "INFO"]);
  return Object.fromEntries(
    text
      .trim()
      .split("\r\n")
      .map((line) => line.split(":", 2)),
  );
}

async function assignSlots(nodes) {
  const share = slots / nodes.length;
  for (const [index, node] of nodes.entries()) {
    await redisCommand(node.ports.port, ["CLUSTER", "SET-CONFIG-EPOCH", index + 1]); // distinct from the start: no election to wait for
    await redisCommand(node.ports.port, [
      "CLUSTER",
      "ADDSLOTSRANGE",
      Math.round(index * share),
      Math.round((index + 1) * share) - 1,
    ]);
  }
  for (const node of nodes.slice(1)) {
    await redisCommand(nodes[0].ports.port, ["CLUSTER", "MEET", "127.0.0.1", node.ports.port, node.ports.clusterBus]);
  }
}

async function untilAgreed(nodes) {
  const endMs = performance.now() + agreeMaxMs;
  for (const node of nodes) {
    for (;;) {
      const info = await clusterInfo(node.ports.port);
      if (
        info.cluster_state === "ok" &&
        Number(info.cluster_known_nodes) === nodes.length &&
        Number(info.cluster_size) === nodes.length
      )
        break;
      if (performance.now() > endMs)
        throw new Error(
          `the cluster is not complete after ${agreeMaxMs / 1000} s: node ${node.instance} says ${JSON.stringify(info)}`,
        );
      await pause(50);
    }
  }
}

/**
 * Starts (or finds) a cluster of `masters` nodes named `redis-NAME-1…n`. Resolves when every node sees all slots served.
 * Kill and restart single nodes with `killService(cluster.nodes[0])` and `startAgain(cluster.nodes[0])`.
 */
export async function startRedisCluster({ runDir, name = "cluster", masters = 3, config, say } = {}) {
  if (!Number.isInteger(masters) || masters < 3)
    throw new Error(`a Redis Cluster needs at least 3 masters, not ${masters}`);
  const options = { cluster: true, ...(config === undefined ? {} : { config }) };
  const nodes = await Promise.all(
    // A node that moved to another port would be a stranger to the others, so the ports are kept or the start fails.
    Array.from({ length: masters }, (_, index) =>
      startInstance(redis, { runDir, name: `${name}-${index + 1}`, options, keepPorts: true, say }),
    ),
  );
  const first = await clusterInfo(nodes[0].ports.port);
  if (Number(first.cluster_slots_assigned) === 0) await assignSlots(nodes);
  await untilAgreed(nodes);
  return { nodes, urls: nodes.map((node) => node.url) };
}
