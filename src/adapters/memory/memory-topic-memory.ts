import type { TopicMemory } from "../../ingest/topic-directory.port.ts";

/** Remembers topics for the life of the process; for tests and the simulation. */
export class MemoryTopicMemory implements TopicMemory {
  readonly #topics = new Set<string>();

  async known(): Promise<readonly string[]> {
    return [...this.#topics];
  }

  async remember(topic: string): Promise<void> {
    this.#topics.add(topic);
  }
}
