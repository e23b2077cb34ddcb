import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Summary } from "./samples.ts";
import { noteStarted } from "./started.ts";

/** An ordinary consumer of one topic, in a process of its own. */
export type WitnessSummary = Summary & { readonly duplicates: number; readonly lastAtMs: number };

export type Witness = {
  readonly pid: number;
  summary(): Promise<WitnessSummary>;
  /** When each message was first there, by its id. */
  arrivals(): Promise<ReadonlyMap<string, number>>;
  clear(): Promise<void>;
  stop(): Promise<void>;
};

const file = fileURLToPath(new URL("consumer-process.ts", import.meta.url));

export const startWitness = async (
  endpoint: string,
  { topic, group }: { topic: string; group: string },
  dueProperty = "ESC_DELIVER_AT",
  idProperty = "ESC_ID",
): Promise<Witness> => {
  const child = fork(file, [endpoint, topic, group, dueProperty, idProperty]);
  noteStarted(child.pid!);
  const exited = once(child, "exit");
  const [ready] = await Promise.race([once(child, "message"), exited]);
  if (ready !== "ready") throw new Error("the consumer did not start");
  const ask = async (question: string): Promise<unknown> => {
    const answer = once(child, "message");
    child.send(question);
    return (await answer)[0];
  };
  return {
    pid: child.pid!,
    summary: async () => (await ask("summary")) as WitnessSummary,
    arrivals: async () => new Map((await ask("arrivals")) as [string, number][]),
    clear: async () => void (await ask("clear")),
    async stop() {
      child.send("stop");
      await exited;
    },
  };
};
