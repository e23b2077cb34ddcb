import { crc32 } from "node:zlib";
import type { Door } from "./ledger.ts";
import type { SeededRandom } from "./seeded-random.ts";

/** What is sent in a run: decided by the seed alone, before anything is sent. */
export type LoadOptions = {
  readonly messages: number;
  readonly ratePerSecond: number;
  /** How far ahead messages are due, spread evenly. */
  readonly delayMs: readonly [least: number, most: number];
  readonly bodyBytes: readonly [least: number, most: number];
  /** Shares of all messages. */
  readonly shares: {
    readonly groups: number;
    readonly keys: number;
    readonly cancels: number;
    readonly reschedules: number;
    readonly batches: number;
    readonly topicDoor: number;
  };
};

/** Two servers' ordinary day, as short as the spread of the due times allows. */
export const usualLoad: LoadOptions = {
  messages: 2_000,
  ratePerSecond: 700,
  delayMs: [0, 5_000],
  bodyBytes: [20, 400],
  shares: { groups: 0.1, keys: 0.3, cancels: 0.05, reschedules: 0.02, batches: 0.4, topicDoor: 0.1 },
};

export type PlannedMessage = {
  readonly serial: number;
  readonly door: Door;
  readonly key: string | undefined;
  readonly group: string | undefined;
  readonly delayMs: number;
  readonly body: Buffer;
  readonly properties: Readonly<Record<string, string>>;
  readonly crc: number;
  readonly change: PlannedChange | undefined;
  /** Sent once more under its key after it was accepted. */
  readonly repeated: boolean;
};

export type PlannedChange = {
  readonly verb: "cancel" | "reschedule";
  /** Made at this share of the time between the accept reply and the due time … */
  readonly atShare: number;
  /** … or so long after the due time, negative for before it. */
  readonly afterDueMs?: number;
  readonly byMs: number;
};

export const serialProperty = "LAB_SERIAL";
const groupCount = 40;
/** Of the keyed messages. */
const repeatedShare = 0.1;

export const planLoad = (options: LoadOptions, random: SeededRandom, run: string): PlannedMessage[] =>
  Array.from({ length: options.messages }, (_, serial) => {
    const { shares } = options;
    const door: Door = random.chance(shares.topicDoor) ? "topic" : random.chance(shares.batches) ? "batch" : "http";
    // The official client's batches of one topic need no groups to make their point; order is tried over HTTP.
    const group =
      door !== "topic" && random.chance(shares.groups) ? `group-${random.between(1, groupCount)}` : undefined;
    const keyed = random.chance(shares.keys);
    const body = bodyOf(serial, random, random.between(...options.bodyBytes));
    const properties = { [serialProperty]: String(serial), colour: `farbe-${serial % 7}-ж` };
    const change = door === "topic" ? undefined : changeOf(shares, random);
    return {
      serial,
      door,
      key: keyed ? `${run}-key-${serial}` : undefined,
      group,
      delayMs: random.between(...options.delayMs),
      body,
      properties,
      crc: fingerprint(body, Object.entries(properties)),
      change,
      repeated: keyed && change === undefined && random.chance(repeatedShare),
    };
  });

const changeOf = (shares: LoadOptions["shares"], random: SeededRandom): PlannedChange | undefined => {
  const dice = random.float();
  const [atShare, byMs] = [random.float(), random.between(200, 3_000)];
  if (dice < shares.cancels) return { verb: "cancel", atShare, byMs: 0 };
  if (dice < shares.cancels + shares.reschedules) return { verb: "reschedule", atShare, byMs };
  return undefined;
};

/** Random bytes with zeros, line ends and half characters among them; the serial makes each body its own. */
const bodyOf = (serial: number, random: SeededRandom, bytes: number): Buffer =>
  Buffer.concat([Buffer.from(`${serial}\0\r\n`), random.bytes(Math.max(0, bytes - 8))]);

/** RocketMQ shows a message group to its consumers once more, as a property. */
const groupProperty = "__SHARDINGKEY";

/** CRC-32 over the body and the properties in the order of their names; what is added on the way does not count. */
export const fingerprint = (body: Buffer, properties: Iterable<readonly [string, string]>): number => {
  const own = [...properties]
    .filter(([name]) => !name.startsWith("ESC_") && name !== groupProperty)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return crc32(JSON.stringify(own), crc32(body));
};
