import type { HandOff, HandOverMessage, HandOverResult } from "../../../src/consumer/hand-off.port.ts";
import type { RetryService } from "../../../src/consumer/retry-service.port.ts";
import { ingestProperty } from "../../../src/message/ingest-properties.ts";
import { retryProperty } from "../../../src/message/retry-properties.ts";
import { decodeEnvelope } from "../../../src/retry/envelope-codec.ts";
import type { Cluster } from "../cluster.ts";
import type { Prng } from "../prng.ts";
import type { SimNode } from "../sim-node.ts";
import type { IngestTopic } from "../sim-source.ts";
import { epochStartMs, type World } from "../world.ts";
import type { Book, HandedOver } from "./book.ts";
import { entryProperty } from "./group-topic.ts";

/** A consumer process's ways to the ingest topic and to the service, with what may happen on them. */
export type Ways = {
  /** No consumer reaches the ingest topic. */
  isIngestClosed: boolean;
  /** Parts of the calls whose answer is lost; the half of them arrived. */
  lostHandOver: number;
  lostSync: number;
};

const answerTimeoutMs = 3_000;

export const simHandOff = (
  node: SimNode,
  parts: { world: World; book: Book; ingest: IngestTopic; ways: Ways; random: Prng; change: Tamper },
): HandOff => {
  const { world, book, ingest, ways, random, change } = parts;
  return {
    send: (given) =>
      new Promise((resolve) => {
        const messages = given.map(change);
        const records = messages.map((message) => recordOf(message, node, world, book));
        const answer = (results: readonly HandOverResult[]): void => {
          if (results.some(({ ok }) => !ok)) book.sawHandOverFail.add(node);
          world.trace.say(
            node.name,
            `hears of its hand-over: ${results[0]!.ok ? "stored" : "failed"}`,
            records.map(({ message }) => message.name),
          );
          resolve(results);
        };
        const all = (result: HandOverResult): HandOverResult[] => messages.map(() => result);
        const fate = random.float();
        const timedOut = (): void => {
          world.after(answerTimeoutMs, node, () =>
            answer(all({ ok: false, code: "send_timeout", detail: "simulated" })),
          );
        };
        if (fate < ways.lostHandOver / 2) return timedOut();
        world.after(random.between(0.3, 2), undefined, () => {
          if (!node.alive && random.chance(0.5)) return;
          if (ways.isIngestClosed || ingest.broker.isDown) {
            world.after(random.between(0.2, 20), node, () =>
              answer(all({ ok: false, code: "broker_unavailable", detail: "simulated" })),
            );
            return;
          }
          messages.forEach((message, i) => {
            const record = records[i]!;
            record.storedMs = world.nowMs;
            ingest.produce(`h${++handOvers.count}`, message.properties, message.body);
            world.trace.say("ingest topic", `has ${wordsOf(record)}, from ${node.name}`, [record.message.name]);
          });
          if (fate < ways.lostHandOver) timedOut();
          else world.after(random.between(0.2, 1), node, () => answer(all({ ok: true })));
        });
      }),
    close: async () => {},
  };
};

/** What a planted bug makes of a hand-over. */
export type Tamper = (message: HandOverMessage) => HandOverMessage;

/** Names in the ingest topic; counted anew for each run by {@link simulateConsumers}. */
export const handOvers = { count: 0 };

const recordOf = (message: HandOverMessage, node: SimNode, world: World, book: Book): HandedOver => {
  const { properties, body } = message;
  const sent = book.sent.get(body.toString());
  const decoded = decodeEnvelope(properties.get(retryProperty.envelope) ?? "");
  const [number] = (properties.get(entryProperty) ?? "").split("/");
  if (sent === undefined || !decoded.ok || number === undefined) {
    throw new Error(`bug: ${node.name} hands over what it cannot have received: ${body}`);
  }
  const park = properties.get(retryProperty.park);
  const dead = properties.get(retryProperty.dead);
  const record: HandedOver = {
    message: sent,
    from: book.entries[Number(number)]!,
    node,
    calledMs: world.nowMs,
    kind: park !== undefined ? "park" : dead !== undefined ? "dead" : "wait",
    said: park ?? dead ?? "",
    dueMs: Number(properties.get(ingestProperty.deliverAt) ?? Number.NaN) - epochStartMs,
    envelope: decoded.envelope,
    storedMs: undefined,
  };
  sent.handedOver.push(record);
  return record;
};

const wordsOf = ({ message, kind, said, dueMs, envelope }: HandedOver): string =>
  `${message.name} to ${kind} ${kind === "wait" ? `until ${(dueMs / 1000).toFixed(3)} s` : said}, hop ${envelope.hop}, ${envelope.attempt} attempts, ${envelope.crashes} crashes`;

export const simRetryService = (
  node: SimNode,
  parts: { world: World; cluster: Cluster; ways: Ways; random: Prng },
): RetryService => {
  const { world, cluster, ways, random } = parts;
  return {
    sync: (request, signal) =>
      new Promise((resolve, reject) => {
        const fail = (): void => {
          signal.removeEventListener("abort", fail);
          reject(new Error("broker_unavailable"));
        };
        signal.addEventListener("abort", fail, { once: true });
        const { answering } = cluster;
        if (answering.length === 0) {
          world.after(random.between(1, 20), node, fail);
          return;
        }
        const process = random.pick(answering);
        const fate = random.float();
        world.after(2_000, node, fail);
        if (fate < ways.lostSync / 2) return;
        // Over the wire: nothing of it is shared with the service.
        const text = JSON.stringify(request);
        world.after(random.between(0.3, 2), process.node, () => {
          const work = process.service.retry.dependencies.sync(JSON.parse(text));
          process.requests.add(work);
          work
            .finally(() => process.requests.delete(work))
            .then(
              (reply) => {
                if (fate < ways.lostSync) return;
                const answer = JSON.stringify(reply);
                world.after(random.between(0.3, 2), node, () => {
                  signal.removeEventListener("abort", fail);
                  resolve(JSON.parse(answer));
                });
              },
              () => {},
            );
        });
      }),
  };
};
