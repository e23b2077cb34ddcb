/**
 * Messages as a RocketMQ broker stores them, which is how the older protocol hands them out: one after the other, fixed
 * fields, then body, topic and properties. A message's *offset id* is the address of the broker and the place in its
 * commit log: the only name by which some administration finds it.
 */
export type StoredRemotingMessage = {
  readonly topic: string;
  readonly queueOffset: number;
  readonly offsetId: string;
  readonly bornAtMs: number;
  readonly storedAtMs: number;
  readonly bodyBytes: number;
  readonly properties: ReadonlyMap<string, string>;
};

/** Of messages whose topic has a length in two bytes instead of one: names above 127 characters. */
const wideTopicMagic = -626_843_477;
const bornHostIsV6 = 1 << 4;
const storeHostIsV6 = 1 << 5;
const nameEnd = "\u0001";
const entryEnd = "\u0002";

/** Throws a RangeError on what is not such a list. */
export const readStoredMessages = (bytes: Buffer): readonly StoredRemotingMessage[] => {
  const found: StoredRemotingMessage[] = [];
  for (let from = 0; from < bytes.length; ) {
    const size = bytes.readInt32BE(from);
    if (size <= 0 || from + size > bytes.length) throw new RangeError("this is not a list of stored messages");
    found.push(readOne(bytes.subarray(from, from + size)));
    from += size;
  }
  return found;
};

const readOne = (bytes: Buffer): StoredRemotingMessage => {
  let at = 4;
  const int = () => {
    at += 4;
    return bytes.readInt32BE(at - 4);
  };
  const long = () => {
    at += 8;
    return Number(bytes.readBigInt64BE(at - 8));
  };
  const part = (length: number) => {
    if (length < 0 || at + length > bytes.length) throw new RangeError("a stored message ends too early");
    at += length;
    return bytes.subarray(at - length, at);
  };
  const magic = int();
  part(12); // checksum, queue, flag
  const queueOffset = long();
  const place = long();
  const systemFlag = int();
  const bornAtMs = long();
  part((systemFlag & bornHostIsV6 ? 16 : 4) + 4);
  const storedAtMs = long();
  const storeHost = part((systemFlag & storeHostIsV6 ? 16 : 4) + 4);
  const placeBytes = Buffer.alloc(8);
  placeBytes.writeBigInt64BE(BigInt(place));
  part(12); // redeliveries, place of the half
  const bodyBytes = int();
  part(bodyBytes);
  const topic = part(magic === wideTopicMagic ? part(2).readInt16BE(0) : part(1)[0]!).toString("utf8");
  const properties = part(part(2).readUInt16BE(0)).toString("utf8");
  return {
    topic,
    queueOffset,
    offsetId: Buffer.concat([storeHost, placeBytes]).toString("hex").toUpperCase(),
    bornAtMs,
    storedAtMs,
    bodyBytes,
    properties: new Map(
      properties
        .split(entryEnd)
        .filter((entry) => entry.includes(nameEnd))
        .map((entry) => [entry.slice(0, entry.indexOf(nameEnd)), entry.slice(entry.indexOf(nameEnd) + 1)]),
    ),
  };
};
