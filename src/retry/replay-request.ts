import { JsonReader } from "./json-reader.ts";
import { readPolicy } from "./parse-policy.ts";
import type { RetryPolicy } from "./policy.ts";
import { readRecord } from "./read-record.ts";
import { asRecorded, type RecordedMessage, type Replay, type ReplayedMessage, replay } from "./replay.ts";

/**
 * The question "what would this policy have done?" as the HTTP API and the command line ask it: from JSON to what can
 * be lived through, and from that to an answer. Throws `invalid_field` with every mistake.
 */
export type ReplayRequest = {
  readonly recorded: readonly RecordedMessage[];
  readonly candidate: RetryPolicy | undefined;
  /** The name of another policy. */
  readonly against: string | undefined;
  readonly seed: number;
  readonly messages: boolean;
};

export const readReplay = (request: unknown): ReplayRequest => {
  const reader = new JsonReader();
  const fields = reader.object(request, "request", ["failures", "candidate", "against", "seed", "messages"]);
  const { candidate, against, messages } = fields;
  const read = {
    candidate: candidate === undefined ? undefined : readPolicy(reader, candidate, "candidate"),
    against: against === undefined ? undefined : reader.text(against, "against", referenceLengthMax, ""),
    seed: reader.whole(fields.seed, "seed", 0, seedMax, 1),
    messages: reader.choice(String(messages ?? false), "messages", ["true", "false"], "false") === "true",
    recorded: readRecord(reader, reader.array(fields.failures, "failures", Number.POSITIVE_INFINITY), "failures"),
  };
  reader.finish();
  return read;
};

const referenceLengthMax = 80;
const seedMax = 2 ** 32 - 1;

export type Totals = Omit<Replay, "perMessage">;
export type Candidate = { readonly name: string; readonly policy: RetryPolicy };

/** `pause` is called now and then, so that other work gets its turn. */
export const replayAll = async (
  { recorded, seed, messages }: ReplayRequest,
  candidates: readonly Candidate[],
  pause: () => Promise<void>,
): Promise<{
  recorded: Totals;
  results: (Totals & { policy: string; perMessage?: readonly ReplayedMessage[] })[];
}> => {
  const results: (Totals & { policy: string; perMessage?: readonly ReplayedMessage[] })[] = [];
  for (const { name, policy } of candidates) {
    const going = replay(policy, recorded, seed);
    let step = going.next();
    for (; !step.done; step = going.next()) await pause();
    const { perMessage, ...totals } = step.value;
    results.push({ policy: name, ...totals, ...(messages ? { perMessage } : undefined) });
  }
  const { perMessage: _, ...totals } = asRecorded(recorded);
  return { recorded: totals, results };
};
