import type { TopicDirectory, TopicLookup } from "../../ingest/topic-directory.port.ts";
import type { Clock } from "../../runtime/clock.ts";

/**
 * Remembers which topics exist, because every accepted message asks. An answer that has aged a little is still given
 * while a new one is fetched behind the back of whoever got it, so that nobody waits for a topic in use.
 */
export type TopicQuery = (topic: string) => Promise<TopicLookup>;

/** After this an existing topic is asked for again, in the background. */
const freshMs = 30_000;
/** After this the old answer is not given any more: whoever asks waits for the new one. */
const staleMs = 300_000;
/** Short, because somebody may be creating the topic right now. */
const missingMs = 1_000;
/** Names come from requests, so their number must not grow without end. */
const rememberedMax = 10_000;

type Remembered = { readonly lookup: TopicLookup; readonly atMs: number };

export const createTopicCache = (query: TopicQuery, clock: Clock): TopicDirectory => {
  const remembered = new Map<string, Remembered>();
  const asking = new Map<string, Promise<TopicLookup>>();

  const remember = (topic: string, lookup: TopicLookup): void => {
    remembered.delete(topic); // so that the oldest answer stands first
    if (remembered.size >= rememberedMax) remembered.delete(remembered.keys().next().value!);
    remembered.set(topic, { lookup, atMs: clock.monotonicMs() });
  };

  /** One question at a time for a topic, however many ask. */
  const ask = (topic: string): Promise<TopicLookup> => {
    const present = asking.get(topic);
    if (present !== undefined) return present;
    const asked = query(topic).then((lookup) => {
      asking.delete(topic);
      // While the broker is away, the last thing it said about an existing topic stays true enough.
      if (lookup.outcome !== "unreachable") remember(topic, lookup);
      return lookup;
    });
    asking.set(topic, asked);
    return asked;
  };

  return {
    async lookUp(topic) {
      const known = remembered.get(topic);
      if (known === undefined) return ask(topic);
      const ageMs = clock.monotonicMs() - known.atMs;
      const exists = known.lookup.outcome === "exists";
      if (ageMs <= (exists ? freshMs : missingMs)) return known.lookup;
      if (!exists || ageMs > staleMs) return ask(topic);
      void ask(topic);
      return known.lookup;
    },
  };
};
