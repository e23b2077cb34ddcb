// A real RocketMQ: the name server, and a proxy in local mode that carries the broker in the same JVM.
// Clients speak gRPC to `endpoint`; topics and groups are created over the remoting protocol at `broker`.
// The settings are those of a production broker except where a comment says otherwise.

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startInstance } from "./instance.mjs";
import { freePort } from "./ports.mjs";
import { rocketmqCommand, rocketmqRequirements } from "./rocketmq-java.mjs";
import { accepts, remotingRequest, requestCodes } from "./rocketmq-wire.mjs";

const clusterName = "EscapementCluster";
const brokerName = "broker-a";
const knownTopic = "SELF_TEST_TOPIC"; // every broker creates it for itself and announces it

const precisionsMs = [100, 200, 500, 1000]; // the broker rounds anything else to one of these without a word

const properties = (entries) =>
  Object.entries(entries)
    .map(([key, value]) => `${key}=${value}\n`)
    .join("");

function nameServerConfig(folder, ports) {
  return properties({
    listenPort: ports.nameserver,
    bindAddress: "127.0.0.1",
    kvConfigPath: join(folder, "namesrv", "kvConfig.json"),
    configStorePath: join(folder, "namesrv", "namesrv.properties"),
  });
}

function brokerConfig(folder, ports, options) {
  return properties({
    brokerClusterName: clusterName,
    brokerName,
    brokerId: 0,
    brokerIP1: "127.0.0.1",
    bindAddress: "127.0.0.1",
    namesrvAddr: `127.0.0.1:${ports.nameserver}`,
    listenPort: ports.broker,
    haListenPort: ports.broker + 1,
    storePathRootDir: join(folder, "store"),
    storePathCommitLog: join(folder, "store", "commitlog"),
    // Disk use stays small: short files, and what is older than half a day goes at the next full hour.
    mappedFileSizeCommitLog: 67_108_864,
    mappedFileSizeTimerLog: 16_777_216,
    fileReservedTime: 12,
    deleteWhen: Array.from({ length: 24 }, (_, hour) => String(hour).padStart(2, "0")).join(";"),
    diskMaxUsedSpaceRatio: 95,
    messageIndexEnable: false,
    enableCompaction: false,
    traceTopicEnable: false,
    autoCreateTopicEnable: false, // useless through the proxy, and a mistyped topic should be seen
    timerWheelEnable: true,
    timerPrecisionMs: options.timerPrecisionMs,
    recallMessageEnable: true,
    enableRetryTopicV2: true,
    // Redelivery after an invisible time: one queue looked at every 200 ms instead of eight once a second.
    reviveQueueNum: 1,
    reviveInterval: 200,
    // Without this a third of promptly committed transactions came twice when checks are fast.
    transactionOpBatchInterval: 200,
    ...options.config,
  });
}

function proxyConfig(ports, options) {
  return JSON.stringify(
    {
      rocketMQClusterName: clusterName,
      proxyMode: "LOCAL",
      namesrvAddr: `127.0.0.1:${ports.nameserver}`,
      localServeAddr: "127.0.0.1",
      grpcServerPort: ports.grpc,
      remotingListenPort: ports.remoting,
      grpcClientConsumerMinLongPollingTimeoutMillis: 500, // 5 s by default; tests want to stop polling sooner
      minInvisibleTimeMillsForRecv: 1000, // 10 s by default; redelivery tests want to see it within a second
      enablePrintJstack: false,
      ...options.proxyConfig,
    },
    null,
    2,
  );
}

export const rocketmq = {
  service: "rocketmq",
  readyMaxMs: 90_000, // 7 s on an idle machine with two cores; a shared one under load has taken several times that
  stopGraceMs: 20_000, // the broker flushes its store before it ends
  roles: [
    {
      role: "nameserver",
      ports: (ports) => [ports.nameserver],
      ready: (ports) => accepts(ports.nameserver),
    },
    {
      role: "proxy", // and the broker: one process
      ports: (ports) => [ports.broker - 2, ports.broker, ports.broker + 1, ports.grpc, ports.remoting],
      async ready(ports) {
        await remotingRequest(ports.broker, requestCodes.topicConfig, { topic: knownTopic }); // runtime info (28) fails inside a broker in its first second
        await remotingRequest(ports.nameserver, requestCodes.routeOfTopic, { topic: knownTopic });
        await accepts(ports.grpc);
        await remotingRequest(ports.remoting, requestCodes.routeOfTopic, { topic: knownTopic }); // the proxy's own view
      },
    },
  ],
  async choosePorts() {
    const taken = new Set();
    return {
      nameserver: await freePort([0], taken),
      broker: await freePort([-2, 0, 1], taken),
      grpc: await freePort([0], taken),
      remoting: await freePort([0], taken),
    };
  },
  defaults: { timerPrecisionMs: 1000 },
  optionsFromEnvironment(environment) {
    const asked = environment.ROCKETMQ_TIMER_PRECISION_MS;
    return asked === undefined || asked === "" ? {} : { timerPrecisionMs: Number(asked) };
  },
  checkOptions({ timerPrecisionMs }) {
    if (!precisionsMs.includes(timerPrecisionMs))
      throw new Error(
        `timerPrecisionMs (ROCKETMQ_TIMER_PRECISION_MS) must be one of ${precisionsMs.join(", ")}, not ${timerPrecisionMs}`,
      );
  },
  /** The timer's files are laid out by precision and would be misread after a change: the messages in them are given up. */
  optionsChanged(folder, before, after, say) {
    if (before.timerPrecisionMs === after.timerPrecisionMs) return;
    say(
      `rocketmq: timer precision changes from ${before.timerPrecisionMs} to ${after.timerPrecisionMs} ms; its store in ${folder} starts empty`,
    );
    rmSync(join(folder, "store"), { recursive: true, force: true });
  },
  requirements: rocketmqRequirements,
  commands({ folder, ports, options, requirements }) {
    for (const inside of ["namesrv", "store", "conf"]) mkdirSync(join(folder, inside), { recursive: true });
    const file = (name, text) => {
      const path = join(folder, "conf", name);
      writeFileSync(path, text);
      return path;
    };
    const java = (role, heapMb, ...program) => rocketmqCommand({ folder, role, heapMb, program, requirements });
    return {
      nameserver: java(
        "nameserver",
        96,
        "org.apache.rocketmq.namesrv.NamesrvStartup",
        "-c",
        file("namesrv.conf", nameServerConfig(folder, ports)),
      ),
      proxy: java(
        "proxy",
        512,
        "org.apache.rocketmq.proxy.ProxyStartup",
        "-pm",
        "local",
        "-n",
        `127.0.0.1:${ports.nameserver}`,
        "-bc",
        file("broker.conf", brokerConfig(folder, ports, options)),
        "-pc",
        file("rmq-proxy.json", proxyConfig(ports, options)),
      ),
    };
  },
  address: (ports) => ({
    endpoint: `127.0.0.1:${ports.grpc}`,
    nameserver: `127.0.0.1:${ports.nameserver}`,
    broker: `127.0.0.1:${ports.broker}`,
  }),
};

/**
 * One RocketMQ. `timerPrecisionMs` is the broker's own timer (100, 200, 500 or 1000); `config` are raw broker.conf
 * entries and `proxyConfig` raw rmq-proxy.json entries laid over ours.
 */
export function startRocketmq({ runDir, name, timerPrecisionMs, config, proxyConfig, say } = {}) {
  const options = Object.fromEntries(
    Object.entries({ timerPrecisionMs, config, proxyConfig }).filter(([, value]) => value !== undefined),
  );
  return startInstance(rocketmq, { runDir, name, options, say });
}
