// The production cluster of deploy/rocketmq-cluster on one machine: two name servers, three controllers (two of them
// inside the name servers), two groups of two brokers, two proxies. It runs on those very files; what cannot be the same
// on one machine is replaced (addresses, ports, folders) or added below, and a file that lacks what is to be replaced is
// an error. The Java heaps are a tenth of what production wants.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { startInstance } from "./instance.mjs";
import { freePort } from "./ports.mjs";
import { rocketmqCommand, rocketmqRequirements } from "./rocketmq-java.mjs";
import { accepts, remotingRequest, requestCodes } from "./rocketmq-wire.mjs";

const production = fileURLToPath(new URL("../../deploy/rocketmq-cluster/", import.meta.url));
const knownTopic = "SELF_TEST_TOPIC"; // every broker creates it for itself and announces it
const brokers = ["a-1", "a-2", "b-1", "b-2"];
const groups = ["a", "b"];
const inStepMaxMs = 60_000; // usually at once when the proxies are up; a killed broker that returns takes half a minute on a busy machine

/** Each JVM compiles little and collects simply: nine of them share the machine, and none lives long. */
const smallJvm = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

/** The production file with every text of `replace` exchanged and `add` at its end. */
function adapted(name, replace, add = "") {
  let text = readFileSync(join(production, name), "utf8");
  for (const [before, after] of Object.entries(replace)) {
    if (!text.includes(before)) throw new Error(`deploy/rocketmq-cluster/${name} does not say ${before} any more`);
    text = text.replaceAll(before, after);
  }
  return `${text}${add}`;
}

const at = (port) => `127.0.0.1:${port}`;

function addresses(ports) {
  return {
    nameservers: { "nameserver1:9876": at(ports.nameserver1), "nameserver2:9876": at(ports.nameserver2) },
    controllers: {
      "nameserver1:9878": at(ports.controller1),
      "nameserver2:9878": at(ports.controller2),
      "controller3:9878": at(ports.controller3),
    },
  };
}

const own = (folder, role) => ({ "/var/lib/rocketmq": join(folder, role) });

function nameServerFile(folder, ports, number) {
  const role = `nameserver-${number}`;
  return adapted(
    `${role}.conf`,
    {
      ...own(folder, role),
      ...addresses(ports).controllers,
      "listenPort=9876": `listenPort=${ports[`nameserver${number}`]}`,
    },
    `bindAddress=127.0.0.1\nmappedFileSize=16777216\nkvConfigPath=${join(folder, role, "kvConfig.json")}\n`,
  );
}

function controllerFile(folder, ports) {
  return adapted(
    "controller-3.conf",
    { ...own(folder, "controller-3"), ...addresses(ports).controllers },
    "mappedFileSize=16777216\n",
  );
}

function brokerFile(folder, ports, broker) {
  const { nameservers, controllers } = addresses(ports);
  const port = ports[`broker-${broker}`];
  // Short files; and the timer's 39 MB are compared with their file every 10 s: once a second, four brokers do little else.
  return adapted(
    `broker-${broker[0]}.conf`,
    { ...own(folder, `broker-${broker}`), ...nameservers, ...controllers, "listenPort=10911": `listenPort=${port}` },
    `brokerIP1=127.0.0.1\nbindAddress=127.0.0.1\nmappedFileSizeCommitLog=67108864\nmappedFileSizeTimerLog=16777216\ntimerFlushIntervalMs=10000\n`,
  );
}

function proxyFile(ports, number) {
  const text = adapted("rmq-proxy.json", addresses(ports).nameservers);
  return JSON.stringify({
    ...JSON.parse(text),
    localServeAddr: "127.0.0.1",
    grpcServerPort: ports[`grpc${number}`],
    remotingListenPort: ports[`remoting${number}`],
  });
}

/** What the name server tells about the groups: by broker name, addresses by id (0 is the master). */
async function announced(port) {
  const asked = { topic: knownTopic, acceptStandardJsonOnly: "true" };
  const { body } = await remotingRequest(port, requestCodes.routeOfTopic, asked);
  return Object.fromEntries(JSON.parse(body).brokerDatas.map((one) => [one.brokerName, one.brokerAddrs]));
}

async function announces(port, broker, brokerPort) {
  const addrs = (await announced(port))[`broker-${broker[0]}`] ?? {};
  if (addrs["0"] === undefined) throw new Error(`broker-${broker[0]} has no master yet`);
  if (!Object.values(addrs).includes(at(brokerPort))) throw new Error(`broker-${broker} is not announced yet`);
}

export const rocketmqCluster = {
  service: "rocketmq-cluster",
  onlyByName: true,
  readyMaxMs: 120_000, // all nine take 62 s of CPU: half a minute on two idle cores; 85 s were seen on busy ones
  stopGraceMs: 20_000,
  roles: [
    ...[1, 2].map((number) => ({
      role: `nameserver-${number}`,
      wave: 1,
      ports: (ports) => [ports[`nameserver${number}`], ports[`controller${number}`]],
      async ready(ports) {
        await accepts(ports[`nameserver${number}`]);
        await accepts(ports[`controller${number}`]);
      },
    })),
    {
      role: "controller-3",
      wave: 1,
      ports: (ports) => [ports.controller3],
      ready: (ports) => accepts(ports.controller3),
    },
    ...brokers.map((broker) => ({
      role: `broker-${broker}`,
      wave: 2,
      ports: (ports) => [-2, 0, 1].map((offset) => ports[`broker-${broker}`] + offset),
      async ready(ports) {
        for (const nameserver of [ports.nameserver1, ports.nameserver2])
          await announces(nameserver, broker, ports[`broker-${broker}`]);
      },
    })),
    ...[1, 2].map((number) => ({
      role: `proxy-${number}`,
      wave: 3,
      ports: (ports) => [ports[`grpc${number}`], ports[`remoting${number}`]],
      async ready(ports) {
        await accepts(ports[`grpc${number}`]);
        await remotingRequest(ports[`remoting${number}`], requestCodes.routeOfTopic, { topic: knownTopic });
      },
    })),
  ],
  async choosePorts() {
    const taken = new Set();
    const ports = {};
    for (const broker of brokers) ports[`broker-${broker}`] = await freePort([-2, 0, 1], taken);
    for (const number of [1, 2, 3]) ports[`controller${number}`] = await freePort([0], taken);
    for (const number of [1, 2]) {
      for (const what of ["nameserver", "grpc", "remoting"]) ports[`${what}${number}`] = await freePort([0], taken);
    }
    return ports;
  },
  requirements: rocketmqRequirements,
  commands({ folder, ports, requirements }) {
    const java = (role, heapMb, main, flag, text) => {
      mkdirSync(join(folder, role, "conf"), { recursive: true });
      const file = join(folder, role, "conf", flag === "-pc" ? "rmq-proxy.json" : "production.conf");
      writeFileSync(file, text);
      const program = [`org.apache.rocketmq.${main}`, flag, file];
      return rocketmqCommand({ folder: join(folder, role), role, heapMb, flags: smallJvm, program, requirements });
    };
    const commands = {
      "controller-3": java("controller-3", 96, "controller.ControllerStartup", "-c", controllerFile(folder, ports)),
    };
    for (const number of [1, 2]) {
      const [nameserver, proxy] = [`nameserver-${number}`, `proxy-${number}`];
      const text = nameServerFile(folder, ports, number);
      commands[nameserver] = java(nameserver, 96, "namesrv.NamesrvStartup", "-c", text);
      commands[proxy] = java(proxy, 192, "proxy.ProxyStartup", "-pc", proxyFile(ports, number));
    }
    for (const broker of brokers) {
      const role = `broker-${broker}`;
      commands[role] = java(role, 256, "broker.BrokerStartup", "-c", brokerFile(folder, ports, broker));
    }
    return commands;
  },
  address: (ports) => ({
    endpoint: at(ports.grpc1),
    secondEndpoint: at(ports.grpc2),
    nameserver: `${at(ports.nameserver1)};${at(ports.nameserver2)}`,
    brokers: brokers.map((broker) => at(ports[`broker-${broker}`])).join(","),
  }),
};

/**
 * Who is the master of each group, and how many replicas (the master included) are in step with it, as the leading
 * controller knows it: `{ a: { master: "broker-a-2", inStep: 2 }, … }`. A group without a master has `master: undefined`.
 */
export async function clusterState({ ports }) {
  const known = [ports.controller1, ports.controller2, ports.controller3];
  let leader;
  for (const port of known) {
    const answer = await remotingRequest(port, requestCodes.controllerMetadata).catch(() => undefined);
    leader ??= known.find((one) => answer?.header.extFields?.controllerLeaderAddress === at(one));
  }
  if (leader === undefined) throw new Error("the controllers have no leader");
  const state = {};
  for (const group of groups) {
    const { header, body } = await remotingRequest(leader, requestCodes.replicasOfGroup, {
      brokerName: `broker-${group}`,
    });
    const master = brokers.find((broker) => header.extFields?.masterAddress === at(ports[`broker-${broker}`]));
    state[group] = { master: master && `broker-${master}`, inStep: JSON.parse(body).syncStateSet?.length ?? 0 };
  }
  return state;
}

/** Resolves when each group has a master and a replica in step with it: only then is everything acknowledged on two. */
export async function untilInStep(handle) {
  const endMs = performance.now() + inStepMaxMs;
  for (;;) {
    const state = await clusterState(handle).catch((error) => error.message);
    if (groups.every((group) => state[group]?.master !== undefined && state[group].inStep === 2)) return;
    if (performance.now() > endMs)
      throw new Error(`the replicas are not in step after ${inStepMaxMs / 1000} s: ${JSON.stringify(state)}`);
    await pause(200);
  }
}

/** One production cluster in small. Kill and restart single processes by role: `killService(cluster, "SIGKILL", { role: "broker-a-1" })`. */
export async function startRocketmqCluster({ runDir, name, say } = {}) {
  const handle = await startInstance(rocketmqCluster, { runDir, name, say });
  await untilInStep(handle);
  return handle;
}
