import { systemRandom } from "../../../adapters/system/system-random.ts";
import { machineClock, systemTimers } from "../../../adapters/system/system-time.ts";
import { CheckedClock } from "../../../runtime/clock.ts";
import { createLog } from "../../../runtime/log.ts";
import { nodeFiles } from "../../files/node-files.ts";
import { CommitLogStore } from "../../storage/commit-log-store.ts";
import { SegmentedLog } from "../../storage/segmented-log.ts";
import { PopDeliveries } from "../pop-deliveries.ts";
import { message } from "./stage.ts";

/**
 * A process that sends, receives and acknowledges on a real disk as fast as it can until it is killed, and says on
 * stdout what it was answered: `sent N`, `got N ATTEMPT`, `acked N`. With "drain" it only receives, until nothing is left.
 */
const [folder, from, mode] = process.argv.slice(2) as [string, string, string | undefined];
const files = nodeFiles(folder);
const clock = new CheckedClock(machineClock);
const log = createLog({ level: "error", pretty: false });
const base = { files, clock, timers: systemTimers, log };
const store = await CommitLogStore.open({
  retention: { keepMs: 3_600_000, keepBytes: 1 << 30 },
  ...base,
  flush: "sync",
});
const journal = await SegmentedLog.open({ ...base, folder: "progress", flush: "sync", segmentBytes: 1 << 20 });
const deliveries = new PopDeliveries({
  store,
  journal,
  rules: { queueCount: () => 2, attemptsMax: () => 1_000_000, bury: async () => {} },
  clock,
  timers: systemTimers,
  random: systemRandom,
  log,
});
const say = (line: string) => process.stdout.write(`${line}\n`);

const send = async (): Promise<void> => {
  for (let i = Number(from); ; i++) {
    const messageGroup = i % 3 === 0 ? `${i % 4}` : undefined;
    await store.append("t", i % 2, [message(`${i}`, "t", messageGroup === undefined ? {} : { messageGroup })]);
    say(`sent ${i}`);
  }
};

const consume = async (): Promise<void> => {
  const request = {
    group: "g",
    topic: "t",
    filter: { tags: new Set<string>() },
    max: 8,
    invisibleMs: 150,
    waitMs: 1_000,
  };
  for (;;) {
    const got = await deliveries.receive(request, new AbortController().signal);
    const { waiting, out } = deliveries.progress("g", "t");
    if (mode === "drain" && waiting + out === 0) process.exit(0);
    for (const {
      message: { messageId },
      attempt,
    } of got)
      say(`got ${messageId} ${attempt}`);
    // Every fifth is left to come again.
    const some = got.filter(
      ({ message: { messageId } }) => mode === "drain" || Number(messageId) % 5 > 0 || Math.random() < 0.3,
    );
    const results = await deliveries.acknowledge(
      "g",
      "t",
      some.map(({ handle }) => handle),
    );
    for (const [
      i,
      {
        message: { messageId },
      },
    ] of some.entries())
      if (results[i] === "ok") say(`acked ${messageId}`);
  }
};

await Promise.all([...(mode === "drain" ? [] : [send()]), consume(), consume()]);
