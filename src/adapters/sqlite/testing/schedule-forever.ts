import { StoreHands } from "../../../delay/delay-store-hands.ts";
import { timeOrderedId } from "../../../message/id.ts";
import { systemRandom } from "../../system/system-random.ts";
import { machineClock, systemTimers } from "../../system/system-time.ts";
import { SqliteDelayStore } from "../sqlite-delay-store.ts";

/**
 * A program to be killed: schedules without end into the folder that it is given, several calls at a time, cancels
 * some, and prints what was acknowledged, once it was, as lines of `scheduled <id>` and `canceled <id>`.
 */
const [folder] = process.argv.slice(2);
const store = await SqliteDelayStore.open({ folder: folder!, clock: machineClock, timers: systemTimers });
const hands = new StoreHands({ store, close: () => store.close() });
const say = (...words: string[]) => process.stdout.write(`${words.join(" ")}\n`);

const work = async (bodyBytes: number): Promise<never> => {
  for (let i = 0; ; i++) {
    const id = timeOrderedId(machineClock.wallMs(), systemRandom.bytes(new Uint8Array(10)), hands.shard);
    const body = Buffer.alloc(bodyBytes, id);
    await hands.schedule(hands.message({ id, body }));
    say("scheduled", id);
    if (i % 5 !== 0) continue;
    await hands.cancel(id);
    say("canceled", id);
  }
};
await Promise.all([work(20), work(300), work(20_000), work(200)]);
