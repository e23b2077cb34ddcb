// Private ports for local services. They are taken below the range from which the kernel lends ports to outgoing
// connections: a killed server must get the same port back, and a lent port could be in use by then.
// They are drawn at random, so that two run folders starting at the same moment rarely meet; who loses draws again.

import { readFileSync } from "node:fs";
import { createServer } from "node:net";

const lowest = 15_000; // above the usual ports of databases and brokers a developer may run (3306, 6379, 8081, 9200, 10911)

function highest() {
  try {
    const lentFrom = Number(readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8").split(/\s+/)[0]);
    return lentFrom > lowest + 2_000 ? lentFrom - 1 : 32_000;
  } catch {
    return 32_000;
  }
}

export function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    // Every address of the machine: a listener on any one of them makes this fail.
    server.listen({ port, host: "0.0.0.0", exclusive: true }, () => server.close(() => resolve(true)));
  });
}

export async function allFree(ports) {
  for (const port of ports) if (!(await isFree(port))) return false;
  return true;
}

/**
 * A port whose neighbours at the given offsets are free too. RocketMQ's broker also opens `port - 2` and `port + 1`:
 * `freePort([-2, 0, 1])`.
 */
export async function freePort(offsets = [0], taken = new Set()) {
  const span = highest() - lowest - 20;
  for (let tries = 0; tries < 200; tries++) {
    const port = lowest + 10 + Math.floor(Math.random() * span);
    const wanted = offsets.map((offset) => port + offset);
    if (wanted.some((one) => taken.has(one)) || !(await allFree(wanted))) continue;
    for (const one of wanted) taken.add(one);
    return port;
  }
  throw new Error(`no free port found between ${lowest} and ${highest()} in 200 tries`);
}
