import { MemoryDocumentStore } from "../../../src/adapters/memory/memory-document-store.ts";
import type { IncomingMessage } from "../../../src/ingest/topic-source.port.ts";
import { bayOf } from "../../../src/message/bay.ts";
import type { MessageId } from "../../../src/message/id.ts";
import { epochMs } from "../../../src/message/time.ts";
import { Clients } from "../clients.ts";
import { Cluster } from "../cluster.ts";
import { Ledger, type MessageRecord } from "../ledger.ts";
import { simDocuments } from "../sim-documents.ts";
import { Broker } from "../sim-sink.ts";
import { IngestTopic } from "../sim-source.ts";
import { type StoreMaker, StoreServer } from "../store-server.ts";
import { Storm } from "../storm.ts";
import type { Trace } from "../trace.ts";
import { epochStartMs, World } from "../world.ts";
import { Book, type Sent } from "./book.ts";
import { checkConsumers } from "./check-consumers.ts";
import { Dependencies } from "./dependencies.ts";
import { Fleet, originTopic, retryTopic } from "./fleet.ts";
import { GroupTopic } from "./group-topic.ts";
import { type ConsumerOptions, consumerOptionsOf } from "./options.ts";
import { handOvers, type Tamper } from "./ports.ts";
import { Redrives } from "./redrives.ts";
import { scriptOf } from "./scripts.ts";
import { Weather } from "./weather.ts";

/**
 * One seed of the world with consumers: a topic, a group of consumer processes that run the retry engine, the service
 * they hand over to, dependencies that come and go, and a storm over all of it. Then everything heals, and whatever was
 * sent must come to its end.
 */
export type ConsumerRun = {
  readonly options: ConsumerOptions;
  readonly violations: readonly { readonly rule: string; readonly text: string; readonly ids: readonly string[] }[];
  readonly trace: Trace;
  readonly book: Book;
  readonly events: number;
  readonly simulatedMs: number;
};

export type ConsumerPlant = {
  readonly makeStore?: StoreMaker;
  readonly options?: (options: ConsumerOptions) => ConsumerOptions;
  /** Changes what consumers receive. */
  readonly received?: (message: IncomingMessage) => IncomingMessage;
  /** Changes what they hand over. */
  readonly tamper?: Tamper;
  /** Changes whatever it likes, and gives back how to undo it. */
  readonly patch?: () => () => void;
};

const settleInMs = 1_500;
/** After everything healed: what is parked comes out at the pace of a ramp, what is deferred comes again and again. */
const calmDownMs = 150_000;
/** In a lane that blocks everything waits for its head, and its waits are a second at least. */
const lanesCalmDownMs = 400_000;

export const simulateConsumers = async (seed: number, plant: ConsumerPlant = {}): Promise<ConsumerRun> => {
  const options = plant.options?.(consumerOptionsOf(seed)) ?? consumerOptionsOf(seed);
  const undo = plant.patch?.();
  const rejections: unknown[] = [];
  const others = process.listeners("unhandledRejection");
  const onRejection = (error: unknown): void => void rejections.push(error);
  process.removeAllListeners("unhandledRejection");
  process.on("unhandledRejection", onRejection);
  try {
    return await simulateWith(options, plant, rejections);
  } finally {
    process.off("unhandledRejection", onRejection);
    for (const other of others) process.on("unhandledRejection", other);
    undo?.();
  }
};

const simulateWith = async (
  options: ConsumerOptions,
  plant: ConsumerPlant,
  rejections: readonly unknown[],
): Promise<ConsumerRun> => {
  handOvers.count = 0;
  const world = new World(options.seed);
  const ledger = new Ledger();
  const book = new Book(ledger);
  const server = new StoreServer(world, ledger, options.service.shards, plant.makeStore);
  const broker = new Broker(world, ledger);
  broker.moreTopics.add(retryTopic);
  const ingest = new IngestTopic(broker);
  const documents = new MemoryDocumentStore();
  const cluster = new Cluster({
    world,
    ledger,
    options: options.service,
    server,
    broker,
    ingest,
    documentsOf: (node) => simDocuments(documents, server, node, options.service.callTimeoutMs),
  });
  const topics = {
    origin: new GroupTopic(originTopic, broker, book, options.invisibleMs),
    retry: new GroupTopic(retryTopic, broker, book, options.invisibleMs),
  };
  if (plant.received !== undefined) {
    for (const topic of [topics.origin, topics.retry]) topic.received = plant.received;
  }
  broker.onStored = (topic, message) => {
    if (topic !== retryTopic) throw new Error(`bug: ${message.body} is sent to ${topic}`);
    topics.retry.store(message.body.toString(), new Map(message.properties).set("ESC_ID", message.id));
  };
  const dependencies = new Dependencies(world, book, options.dependencies, options.troubles.capacityPerSec);
  const fleet = new Fleet({
    world,
    ledger,
    book,
    options,
    cluster,
    ingest,
    topics,
    dependencies,
    tamper: plant.tamper ?? ((message) => message),
  });
  const clients = new Clients({ world, ledger, options: options.service, cluster, ingest });
  const storm = new Storm({ world, ledger, options: options.service, cluster, server, broker, ingest, clients });
  const weather = new Weather({ world, ledger, options, cluster, fleet, dependencies, topics });

  for (const machine of cluster.machines) {
    world.after(world.random.between(0, 200), undefined, () => cluster.start(machine));
  }
  if (options.bound) {
    await world.run(400);
    await prepare(world, cluster, options);
  }
  for (const worker of fleet.workers) {
    world.after(world.random.between(0, 800), undefined, () => fleet.start(worker));
  }
  send(world, options, book, topics.origin, dependencies);
  storm.start(settleInMs);
  weather.start(settleInMs);
  await world.run(settleInMs + options.stormMs);
  storm.heal();
  weather.heal();
  const healedMs = world.nowMs;

  const isQuiet = (): boolean =>
    topics.origin.unacknowledged.length === 0 &&
    topics.retry.unacknowledged.length === 0 &&
    ingest.unacknowledged === 0 &&
    [...ledger.messages.values()].every(
      (record) =>
        record.state !== "claimed" && (record.state !== "scheduled" || waitsLong(options, record, world.nowMs)),
    );
  const patienceMs = options.order?.startsWith("block") === true ? lanesCalmDownMs : calmDownMs;
  const quietBy = async (limitMs: number): Promise<number | undefined> => {
    let lookedMs = 0;
    let isDone = false;
    await world.run(limitMs, () => {
      if (world.nowMs - lookedMs < 100) return false;
      lookedMs = world.nowMs;
      isDone = isQuiet();
      return isDone;
    });
    return isDone ? world.nowMs : undefined;
  };
  const deadNow = async (): Promise<Map<string, string>> => {
    const dead = new Map<string, string>();
    for (const { id, shard } of ledger.messages.values()) {
      const [found] = await server.truth.get(shard, [id as MessageId], epochMs(0));
      if (found?.state === "dead") dead.set(id, found.reason?.code ?? "");
    }
    return dead;
  };
  let quietMs = await quietBy(healedMs + patienceMs);
  const redrives = new Redrives({ world, ledger, cluster, options });
  if (quietMs !== undefined && options.troubles.redrives > 0) {
    fleet.isMended = true;
    await redrives.run(deadNow);
    quietMs = await quietBy(world.nowMs + patienceMs);
  }
  // Handlers that were left behind may still end.
  await world.run(world.nowMs + 500);

  let open = 0;
  for (const worker of fleet.workers) {
    if (worker.life?.node.alive !== true) continue;
    open++;
    void fleet.stop(worker, undefined).then(() => open--);
  }
  await world.run(world.nowMs + 20_000, () => open === 0);
  const dead = await deadNow();
  await new Promise(setImmediate);
  const violations = checkConsumers({
    options,
    ledger,
    book,
    dead,
    dependencies,
    redrives,
    healedMs,
    quietMs,
    endMs: world.nowMs,
    workersStopped: open === 0,
    left: [...topics.origin.unacknowledged, ...topics.retry.unacknowledged],
    unread: ingest.unacknowledged,
    lives: fleet.workers.reduce((sum, { lives }) => sum + lives, 0),
    rejections,
  });
  return { options, violations, trace: world.trace, book, events: world.events, simulatedMs: world.nowMs };
};

/**
 * A process that starts while the service does not answer goes by the default policy, whose waits grow to half an hour.
 * What waits so long and is not parked is on its way, as far as this run goes.
 */
export const waitsLong = ({ bound }: ConsumerOptions, { content }: MessageRecord, nowMs: number): boolean =>
  bound && content.deliverAtMs - epochStartMs > nowMs + 60_000 && bayOf(epochMs(content.deliverAtMs)) === undefined;

/** The policy is there before anybody asks for it. */
const prepare = async (world: World, cluster: Cluster, options: ConsumerOptions): Promise<void> => {
  for (let tries = 0; tries < 5; tries++) {
    const [service] = cluster.answering;
    let isDone = false;
    if (service !== undefined) {
      const { policies } = service.service.retry;
      world.after(0.1, service.node, () => {
        void policies
          .put("sim", { policy: options.policyInput })
          .then(() => policies.bind({ policy: "sim" }))
          .then(() => {
            isDone = true;
          });
      });
    }
    await world.run(world.nowMs + 200, () => isDone);
    if (isDone) return;
  }
  throw new Error("bug of the simulation: no policy could be bound before the storm");
};

/** Spreads the messages over the storm, in bursts as well as one by one. */
const send = (
  world: World,
  options: ConsumerOptions,
  book: Book,
  origin: GroupTopic,
  dependencies: Dependencies,
): void => {
  const random = world.random.fork("senders");
  const { order, messageGroups } = options;
  let atMs = settleInMs;
  for (let i = 0; i < options.messages; i++) {
    if (!random.chance(0.5)) atMs = settleInMs + random.between(0, options.stormMs * 0.8);
    const script = scriptOf(random, dependencies.keys, options.odd, options.handlerTimeoutMs);
    world.at(atMs, undefined, () => {
      const number = book.sent.size + 1;
      const messageGroup = order === undefined ? undefined : `g${random.whole(1, messageGroups)}`;
      const queueId = messageGroup === undefined ? 0 : Number(messageGroup.slice(1)) % 2;
      const sent: Sent = {
        name: `c${number}`,
        script,
        order: number,
        messageGroup,
        queueId,
        entries: [],
        runs: [],
        handedOver: [],
      };
      book.sent.set(sent.name, sent);
      const lane = order === "block-queue" ? `queue ${queueId}` : messageGroup;
      origin.store(sent.name, new Map(), {
        ...(messageGroup === undefined ? {} : { messageGroup }),
        queueId,
        ...(lane === undefined ? {} : { lane }),
      });
    });
  }
};
