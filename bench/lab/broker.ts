import { connect, type Socket } from "node:net";
import { createRemotingAdmin, type TopicType } from "../../src/adapters/rocketmq/remoting-admin.ts";
import { systemTimers } from "../../src/adapters/system/system-time.ts";
import { decodeRemoting, encodeRemoting } from "../../src/protocol/remoting-frame.ts";
import { uniqueName } from "./server-process.ts";

/** Topics of a benchmark, and how many messages a topic holds: the broker's own count, which costs it next to nothing. */
export const createTopic = async (
  broker: string,
  prefix: string,
  type: TopicType = "NORMAL",
): Promise<{ topic: string; group: string }> => {
  const admin = createRemotingAdmin({ broker, timers: systemTimers });
  const topic = uniqueName(prefix);
  const group = `${topic}_G`;
  await admin.createTopic({ name: topic, type });
  await admin.createGroup({ name: group });
  return { topic, group };
};

const topicStats = 202;

/** One connection that is asked again and again. */
export class TopicCounter {
  readonly #socket: Socket;
  readonly #request: Buffer;
  #received: Buffer = Buffer.alloc(0);
  #answer: ((count: number) => void) | undefined;

  constructor(broker: string, topic: string) {
    const [host, port] = broker.split(":") as [string, string];
    this.#socket = connect({ host, port: Number(port) });
    this.#request = encodeRemoting({ code: topicStats, fields: { topic } }, 1);
    this.#socket.on("data", (part) => {
      this.#received = Buffer.concat([this.#received, part]);
      const reply = decodeRemoting(this.#received);
      if (reply === undefined) return;
      this.#received = Buffer.alloc(0);
      let count = 0;
      // The broker's JSON has objects as keys, which no parser takes.
      for (const match of reply.body.toString("latin1").matchAll(/"maxOffset":(\d+)/g)) count += Number(match[1]);
      this.#answer?.(count);
    });
  }

  count(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#answer = resolve;
      this.#socket.once("error", reject);
      this.#socket.write(this.#request, () => this.#socket.off("error", reject));
    });
  }

  close(): void {
    this.#socket.destroy();
  }
}

/**
 * Watches a topic until it holds `count` messages: when the first was there and when the last. The instants are those
 * of the look that saw it, so they are late by up to one interval.
 */
export const watchTopic = async (
  broker: string,
  topic: string,
  count: number,
  withinMs: number,
): Promise<{ firstAtMs: number; lastAtMs: number; seen: number }> => {
  const counter = new TopicCounter(broker, topic);
  const endMs = Date.now() + withinMs;
  let firstAtMs = 0;
  try {
    for (;;) {
      const seen = await counter.count();
      const nowMs = Date.now();
      if (seen > 0 && firstAtMs === 0) firstAtMs = nowMs;
      if (seen >= count || nowMs > endMs) return { firstAtMs, lastAtMs: nowMs, seen };
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  } finally {
    counter.close();
  }
};
