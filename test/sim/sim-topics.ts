import type { TopicDirectory, TopicLookup, TopicMemory } from "../../src/ingest/topic-directory.port.ts";
import { EscapementError } from "../../src/message/errors.ts";
import type { SimNode } from "./sim-node.ts";
import type { Broker } from "./sim-sink.ts";
import type { StoreServer } from "./store-server.ts";

/** What the broker says of its topics, and what the store remembers of them. */

/** Everything may be sent to these; there is no other topic. */
export const simTopics = ["orders", "mails", "fifo"] as const;

export const simDirectory = (broker: Broker, node: SimNode): TopicDirectory => ({
  lookUp: (topic) =>
    new Promise<TopicLookup>((resolve) => {
      broker.world.after(broker.random.between(0.5, 3), node, () => {
        if (broker.isDown) resolve({ outcome: "unreachable" });
        else if ((simTopics as readonly string[]).includes(topic) || broker.moreTopics.has(topic)) {
          resolve({ outcome: "exists", types: topic === "fifo" ? ["FIFO"] : ["NORMAL"] });
        } else resolve({ outcome: "missing" });
      });
    }),
});

/** Kept in the store, so it shares the store's troubles. */
export class SimTopicMemory implements TopicMemory {
  readonly #server: StoreServer;
  readonly #node: SimNode;
  readonly #topics: Set<string>;

  constructor(server: StoreServer, node: SimNode, topics: Set<string>) {
    this.#server = server;
    this.#node = node;
    this.#topics = topics;
  }

  known(): Promise<readonly string[]> {
    return this.#ask(() => [...this.#topics]);
  }

  remember(topic: string): Promise<void> {
    return this.#ask(() => void this.#topics.add(topic));
  }

  #ask<T>(effect: () => T): Promise<T> {
    const { world, random, troubles } = this.#server;
    return new Promise((resolve, reject) => {
      world.after(random.between(0.1, 1), this.#node, () => {
        if (this.#server.isDown || random.chance(troubles.lostRequest)) {
          reject(new EscapementError("store_unavailable", "topics: no answer"));
        } else resolve(effect());
      });
    });
  }
}
