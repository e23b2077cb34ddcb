import { join } from "node:path";
import { MemoryDelayStore } from "./adapters/memory/memory-delay-store.ts";
import { MemoryTopicMemory } from "./adapters/memory/memory-topic-memory.ts";
import { SqliteDelayStore } from "./adapters/sqlite/sqlite-delay-store.ts";
import { systemRandom } from "./adapters/system/system-random.ts";
import { machineClock, systemTimers } from "./adapters/system/system-time.ts";
import type { TopicType } from "./broker/broker.port.ts";
import { attemptsMaxDefault, Catalog, type CatalogFile, queuesDefault } from "./broker/catalog.ts";
import { PopDeliveries } from "./broker/delivery/pop-deliveries.ts";
import type { Files } from "./broker/files/files.port.ts";
import { memoryFiles } from "./broker/files/memory-files.ts";
import { nodeFiles } from "./broker/files/node-files.ts";
import { readFile, replaceFile } from "./broker/files/whole-file.ts";
import { LocalBroker } from "./broker/local-broker.ts";
import { MessagingService } from "./broker/rpc/messaging-service.ts";
import { type BrokerServerOptions, startBrokerServer } from "./broker/rpc/server.ts";
import { CommitLogStore } from "./broker/storage/commit-log-store.ts";
import { type Flush, SegmentedLog } from "./broker/storage/segmented-log.ts";
import { checkAfterMsDefault } from "./broker/transactions.ts";
import { openBrokerDelayRoom } from "./broker-delay-room.ts";
import { notListening, shownAddress } from "./listen-address.ts";
import { type MachineClock, uncheckedClock } from "./runtime/clock.ts";
import { type Log, silentLog } from "./runtime/log.ts";
import type { Random } from "./runtime/random.ts";
import type { Timers } from "./runtime/timers.ts";

/**
 * The embedded broker, joined from its parts and listening: for `npm start`, for `escapement broker`, and for tests of
 * programs that speak RocketMQ 5:
 *
 *   await using broker = await startBroker();
 *   const producer = new Producer({ endpoints: broker.endpoint, … });
 *
 * It is for development, tests and one machine: there are no replicas.
 */
export type StartBrokerOptions = {
  /** Address to listen on. Default 127.0.0.1. It asks nobody for a password. */
  readonly host?: string | undefined;
  /** Default 0: any that is free. */
  readonly port?: number | undefined;
  /** Where messages are kept. Absent: in memory, and gone with the process. One process at a time. */
  readonly folder?: string | undefined;
  /** Topics come into being by being used. Default true; consumer groups always do. */
  readonly autoCreate?: boolean | undefined;
  /** `sync` (default): a send is answered when it is on the disk. `async`: half a second may be lost with the power. */
  readonly flush?: Flush | undefined;
  /** How long messages are kept. Default 72 h. */
  readonly keepMs?: number | undefined;
  /** Of the commit log; beyond it the oldest messages go. Default 8 GiB, in memory 256 MiB. */
  readonly keepBytes?: number | undefined;
  /** How long a transaction is open before its producer is asked about it, and asked again. Default 6,000. */
  readonly transactionCheckMs?: number | undefined;
  /** PEM. Default: a certificate made at the first TLS connection. */
  readonly tls?: NonNullable<BrokerServerOptions["tls"]> | undefined;
  /** Default: says nothing. */
  readonly log?: Log | undefined;
  readonly machine?: MachineClock | undefined;
  readonly timers?: Timers | undefined;
  readonly random?: Random | undefined;
};

export type RunningBroker = AsyncDisposable & {
  /** `host:port`, what clients are given. */
  readonly endpoint: string;
  /** The broker without its port, for programs in this process. */
  readonly messaging: MessagingService;
  /** `type` default NORMAL; MIXED takes every type. `queues` default 4. @throws BrokerError */
  createTopic(name: string, options?: { readonly type?: TopicType; readonly queues?: number }): Promise<void>;
  /** `attemptsMax` default 17: deliveries of a message before it is a dead letter. @throws BrokerError */
  createGroup(name: string, options?: { readonly attemptsMax?: number; readonly orderly?: boolean }): Promise<void>;
  /** Finishes what is under way. */
  stop(): Promise<void>;
};

/** Of what consumers have done, which is written anew from time to time. */
const progressSegmentBytes = 4 * 1024 * 1024;
/**
 * A snapshot of it is handed over in one turn, 38 bytes for each message that is out, and were it refused nothing could
 * be delivered any more. This is what 28 million take; their 4 GB of memory end first.
 */
const progressWaitingBytesMax = 1024 ** 3;
/** Memory is given back in these; a request of 8 MiB must fit into one. */
const memorySegmentBytes = 16 * 1024 * 1024;
const keepMsDefault = 72 * 3_600_000;
const keepBytesDefault = 8 * 1024 ** 3;
const memoryKeepBytes = 256 * 1024 ** 2;

/** @throws Error when the folder or the address is in use, or cannot be used; it says what to change. */
export const startBroker = async (options: StartBrokerOptions = {}): Promise<RunningBroker> => {
  const { host = "127.0.0.1", port = 0, folder, flush = "sync", log = silentLog } = options;
  const { machine = machineClock, timers = systemTimers, random = systemRandom } = options;
  const clock = uncheckedClock(machine);
  const surroundings = { clock, machine, timers, random, log };
  const opened: (() => Promise<void>)[] = [];
  const closeAll = async (): Promise<void> => {
    const failures: unknown[] = [];
    // What cannot end well keeps no other from giving back its files.
    for (const close of opened.splice(0).reverse()) await close().catch((error) => failures.push(error));
    if (failures.length > 0) throw failures[0];
  };
  let stopped: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopped ??= closeAll();
    return stopped;
  };
  try {
    // First, because the lock of its file is the lock of the whole folder.
    const waiting = await openDelayStore(folder, surroundings);
    opened.push(() => waiting.store.close());
    const files = folder === undefined ? memoryFiles() : nodeFiles(folder);
    const segmentBytes = folder === undefined ? { segmentBytes: memorySegmentBytes } : {};
    const { keepMs = keepMsDefault, keepBytes = folder === undefined ? memoryKeepBytes : keepBytesDefault } = options;
    const retention = { keepMs, keepBytes };
    const store = await CommitLogStore.open({ files, flush, retention, ...segmentBytes, ...surroundings });
    opened.push(() => store.close());
    const journal = await SegmentedLog.open({
      files,
      folder: "progress",
      flush,
      segmentBytes: progressSegmentBytes,
      waitingBytesMax: progressWaitingBytesMax,
      ...surroundings,
    });
    opened.push(() => journal.close());
    const catalog = await Catalog.open({ file: catalogFile(files), autoCreate: options.autoCreate ?? true });
    const broker = await LocalBroker.start({
      store,
      catalog,
      deliveries: async (rules) => new PopDeliveries({ store, journal, rules, ...surroundings }),
      delay: (deliver) => openBrokerDelayRoom({ ...waiting, deliver, ...surroundings }),
      transactionCheckMs: options.transactionCheckMs ?? checkAfterMsDefault,
      clock,
      timers,
      log,
    });
    opened.push(() => broker.stop());
    const messaging = new MessagingService({ broker, clock, timers, log });
    opened.push(() => messaging.stop());
    const tls = options.tls === undefined ? {} : { tls: options.tls };
    const server = await startBrokerServer({ host, port, broker, service: messaging, ...tls, timers, log }).catch(
      (error: unknown) => {
        throw notListening(error, { host, port }, "the broker", "BROKER_ADDR, --port");
      },
    );
    // Together: no new calls, and then the long polls end; who is answered must not be able to ask once more.
    opened.push(async () => void (await Promise.all([server.close(), messaging.stop()])));
    return {
      endpoint: shownAddress(server.address),
      messaging,
      createTopic: (name, { type = "NORMAL", queues = queuesDefault } = {}) =>
        broker.createTopic({ name, type, queues }),
      createGroup: (name, { attemptsMax = attemptsMaxDefault, orderly = false } = {}) =>
        broker.createGroup({ name, attemptsMax, orderly }),
      stop,
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
};

const openDelayStore = async (
  folder: string | undefined,
  { machine, timers }: { readonly machine: MachineClock; readonly timers: Timers },
) => {
  if (folder === undefined) {
    const store = new MemoryDelayStore({ clockMs: () => machine.wallMs(), shardCount: delayShards });
    return { store, memory: new MemoryTopicMemory() };
  }
  const options = { clock: machine, timers, shardCount: delayShards, reserveBytes: delayReserveBytes };
  const store = await SqliteDelayStore.open({ folder: join(folder, "delay"), ...options });
  return { store, memory: store.topicMemory };
};

/** One process and few messages need no more. */
const delayShards = 4;
/** Room for letting out on a full disk what waits; few messages need little. */
const delayReserveBytes = 4 * 1024 * 1024;

const catalogPath = "catalog.json";
const catalogFile = (files: Files): CatalogFile => ({
  load: async () => readFile(files, catalogPath)?.toString("utf8"),
  save: (text) => replaceFile(files, catalogPath, Buffer.from(text)),
});
