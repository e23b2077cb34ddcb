import type { ConsumedMessage, HandlerContext } from "../../../src/consumer/handler-context.ts";
import { RetryingConsumer } from "../../../src/consumer/retrying-consumer.ts";
import { uncheckedClock } from "../../../src/runtime/clock.ts";
import type { Cluster } from "../cluster.ts";
import type { Ledger } from "../ledger.ts";
import type { Prng } from "../prng.ts";
import { simLog } from "../sim-log.ts";
import { SimNode, type WallClock } from "../sim-node.ts";
import type { IngestTopic } from "../sim-source.ts";
import { epochStartMs, type World } from "../world.ts";
import type { Book, Run, RunEnd } from "./book.ts";
import { leftBehindMs } from "./book.ts";
import type { Dependencies } from "./dependencies.ts";
import { entryProperty, type GroupTopic } from "./group-topic.ts";
import type { ConsumerOptions } from "./options.ts";
import { simHandOff, simRetryService, type Tamper, type Ways } from "./ports.ts";
import { failureOfFlavor, oddFailureOfFlavor, permanentFailure, ruleFailure } from "./scripts.ts";

/** The consumer processes: each the very RetryingConsumer of src, on ports of the simulated world. */
export const group = "billing";
export const retryTopic = `ESC_RETRY_${group}`;
export const originTopic = "payments";
/** What handlers park for by themselves. */
export const ownKey = "vault";

export type Worker = { readonly name: string; readonly wall: WallClock; lives: number; life: Life | undefined };

export type Life = {
  readonly node: SimNode;
  readonly consumer: RetryingConsumer;
  stopped: Promise<void> | undefined;
};

export class Fleet {
  readonly workers: Worker[];
  readonly ways: Ways = { isIngestClosed: false, lostHandOver: 0, lostSync: 0 };
  readonly #parts: FleetParts;
  readonly #random: Prng;
  /** From now on most of what used to be odd works; the dead that come back find a mended world. */
  isMended = false;

  constructor(parts: FleetParts) {
    this.#parts = parts;
    this.#random = parts.world.random.fork("fleet");
    this.workers = Array.from({ length: parts.options.workers }, (_, i) => ({
      name: `w${i + 1}`,
      wall: { name: `w${i + 1}`, offsetMs: 0 },
      lives: 0,
      life: undefined,
    }));
  }

  get living(): Life[] {
    return this.workers.flatMap(({ life }) => (life?.node.alive === true ? [life] : []));
  }

  start(worker: Worker): void {
    if (worker.life?.node.alive === true) return;
    const { world, ledger, book, cluster, ingest, options, topics, tamper } = this.#parts;
    const node = new SimNode(world, `${worker.name}.${++worker.lives}`, worker.wall);
    const random = this.#random.fork(node.name);
    const { ways } = this;
    const { order } = options;
    const consumer = new RetryingConsumer({
      group,
      retryTopic,
      sources: [
        { source: topics.origin.source(node), ofRetryTopic: false, polls: 1 },
        { source: topics.retry.source(node), ofRetryTopic: true, polls: 1 },
      ],
      handOff: simHandOff(node, { world, book, ingest, ways, random, change: tamper }),
      service: simRetryService(node, { world, cluster, ways, random }),
      policy: options.bound ? { kind: "bound" } : { kind: "inline", policy: options.policy, name: "sim" },
      handler: (message, context) => this.#handle(worker, node, random, message, context),
      dependency: (message) => book.sent.get(message.body.toString())?.script.key,
      ...(order === undefined ? {} : { order }),
      settings: {
        concurrency: options.concurrency,
        invisibleMs: options.invisibleMs,
        handlerTimeoutMs: options.handlerTimeoutMs,
        stopGraceMs: 2_000,
      },
      worker: node.name,
      clock: uncheckedClock(node.machine),
      timers: node.timers,
      random: node.random.fork("consumer"),
      log: simLog(world, ledger, node),
    });
    worker.life = { node, consumer, stopped: undefined };
    world.trace.mark(node.name, "starts");
    world.after(0, node, () => void consumer.start());
  }

  crash(worker: Worker, restartAfterMs: number): void {
    const { world, ledger } = this.#parts;
    const { life } = worker;
    if (life?.node.alive !== true) return;
    const { node } = life;
    node.alive = false;
    node.diedMs = world.nowMs;
    world.trace.mark(node.name, "crashes");
    ledger.troubles.push({ kind: "crash", fromMs: world.nowMs, toMs: world.nowMs, whose: node.name });
    world.after(restartAfterMs, undefined, () => this.start(worker));
  }

  pause(worker: Worker, forMs: number): void {
    const { world, ledger } = this.#parts;
    const { life } = worker;
    if (life?.node.alive !== true) return;
    const { node } = life;
    node.timersAfterFreezeMs = node.random.pick([0, 0.5, 20]);
    node.frozenUntilMs = Math.max(node.frozenUntilMs, world.nowMs + forMs);
    world.trace.mark(node.name, `stands still for ${Math.round(forMs)} ms`);
    ledger.troubles.push({ kind: "pause", fromMs: world.nowMs, toMs: world.nowMs + forMs + 50, whose: node.name });
  }

  stop(worker: Worker, restartAfterMs: number | undefined): Promise<void> {
    const { world } = this.#parts;
    const { life } = worker;
    if (life?.node.alive !== true) return Promise.resolve();
    const { node, consumer } = life;
    life.stopped ??= new Promise<void>((resolve) => {
      world.after(0, node, () => {
        world.trace.mark(node.name, "is told to stop");
        node.stoppingMs = world.nowMs;
        void consumer.stop().then(() => {
          node.alive = false;
          node.diedMs = world.nowMs;
          world.trace.mark(node.name, "has stopped");
          resolve();
          if (restartAfterMs !== undefined) world.after(restartAfterMs, undefined, () => this.start(worker));
        });
      });
    });
    return life.stopped;
  }

  // --- the handler ------------------------------------------------------------------------------------------------

  async #handle(
    worker: Worker,
    node: SimNode,
    random: Prng,
    consumed: ConsumedMessage<Buffer>,
    context: HandlerContext<Buffer>,
  ): Promise<unknown> {
    const { world, book } = this.#parts;
    const message = book.sent.get(consumed.body.toString())!;
    const [entry, delivery] = (consumed.properties.get(entryProperty) ?? "").split("/").map(Number);
    const { script } = message;
    const run: Run = {
      message,
      entry: book.entries[entry!]!,
      delivery: delivery!,
      node,
      startMs: world.nowMs,
      attempt: context.attempt,
      key: script.key,
      endMs: undefined,
      end: undefined,
      code: "",
      aborted: undefined,
      wantedMs: undefined,
    };
    // What counts for the script is how often it came to its handler, not what the handler is told.
    const isOdd = message.runs.length < script.odd && !(this.isMended && script.flavor % 4 > 0);
    message.runs.push(run);
    book.runs.push(run);
    world.trace.say(node.name, `runs ${message.name} (${script.kind}), attempt ${run.attempt}`, [message.name]);
    context.signal.addEventListener("abort", () => {
      const by = (context.signal.reason as Error).name === "TimeoutError" ? "timeout" : "stop";
      run.aborted = { atMs: world.nowMs, by };
    });
    const end = (how: RunEnd, code = ""): void => {
      run.endMs = world.nowMs;
      run.end = run.aborted !== undefined && world.nowMs >= run.aborted.atMs + leftBehindMs - 5 ? "late" : how;
      run.code = code;
      world.trace.say(node.name, `${message.name}: ${run.end}${code === "" ? "" : ` ${code}`}`, [message.name]);
    };
    const work = (ms: number): Promise<void> => new Promise((resolve) => world.after(ms, node, resolve));
    const fail = (thrown: unknown, code: string): never => {
      end("threw", code);
      throw thrown;
    };

    if (script.kind === "hangs" && isOdd) {
      // Half of them hear their signal, the others go on as if nothing were.
      if (script.flavor % 2 === 0) {
        await new Promise<void>((resolve) => context.signal.addEventListener("abort", () => resolve()));
        await work(random.between(1, 200));
        end(run.aborted!.by === "timeout" ? "timed out" : "stopped");
        throw context.signal.reason;
      }
      await work(this.#parts.options.handlerTimeoutMs + random.pick([300, 4_000, 15_000]));
      end("ok");
      return undefined;
    }
    await work(script.workMs);
    switch (script.kind) {
      case "call": {
        const refused = await this.#parts.dependencies.call(script.key!, work);
        if (refused !== undefined) fail(refused.error, refused.code);
        break;
      }
      case "throws":
        if (isOdd) fail(failureOfFlavor(script.flavor), `flavor ${script.flavor % 8}`);
        break;
      case "odd throws":
        if (isOdd) fail(oddFailureOfFlavor(script.flavor), "odd");
        break;
      case "permanent":
        if (isOdd) fail(permanentFailure(), "permanent");
        break;
      case "rule dead":
        if (isOdd) fail(ruleFailure("rule_dead"), "rule_dead");
        break;
      case "rule park":
        if (isOdd) fail(ruleFailure("rule_park"), "rule_park");
        break;
      case "never works":
        if (isOdd) fail(ruleFailure("rule_fast"), "rule_fast");
        break;
      case "crashes":
        if (isOdd) {
          end("crashed");
          this.crash(worker, random.between(20, 1_500));
          await new Promise(() => {});
        }
        break;
      case "snooze":
        if (isOdd) {
          const ms = random.whole(50, 2_000);
          run.wantedMs = world.nowMs + ms;
          const verdict = context.snooze(ms);
          end("snooze");
          return verdict;
        }
        break;
      case "retryAt":
        if (isOdd) {
          const ms = random.whole(50, 2_000);
          run.wantedMs = world.nowMs + ms;
          const at = Math.floor(epochStartMs + run.wantedMs);
          const verdict = context.retryAt(random.pick([ms, new Date(at), `${ms}ms`]), "the script says so");
          end("retryAt");
          return verdict;
        }
        break;
      case "park":
        if (isOdd) {
          context.park(ownKey);
          // Said is said: neither a throw nor nothing takes it back.
          end("park");
          if (script.flavor % 2 === 0) throw new Error("after its word");
          return undefined;
        }
        break;
      case "dead":
        if (isOdd) {
          const verdict = context.dead("the script says so");
          end("dead");
          return verdict;
        }
        break;
    }
    end("ok");
    return undefined;
  }
}

export type FleetParts = {
  readonly world: World;
  readonly ledger: Ledger;
  readonly book: Book;
  readonly options: ConsumerOptions;
  readonly cluster: Cluster;
  readonly ingest: IngestTopic;
  readonly topics: { readonly origin: GroupTopic; readonly retry: GroupTopic };
  readonly dependencies: Dependencies;
  readonly tamper: Tamper;
};
