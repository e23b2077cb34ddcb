/**
 * Frames of RocketMQ's older "remoting" protocol, with the JSON header: int32 length of all that follows, int32 with
 * the header's codec in the top byte (0 is JSON) and its length below, the header, the body.
 */
export type RemotingRequest = {
  readonly code: number;
  /** All values are text in this protocol, numbers and booleans too. */
  readonly fields?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
};

export type RemotingReply = {
  readonly code: number;
  readonly opaque: number;
  readonly remark: string;
  readonly body: Buffer;
};

/** The broker's own limit for a frame. */
const frameBytesMax = 16 * 1024 * 1024;
const lengthBytes = 4;
const prefixBytes = 8;

export const encodeRemoting = ({ code, fields = {}, body }: RemotingRequest, opaque: number): Buffer => {
  const header = Buffer.from(
    JSON.stringify({
      code,
      language: "OTHER", // one of the names that the broker knows
      version: 0,
      opaque,
      flag: 0,
      serializeTypeCurrentRPC: "JSON",
      extFields: fields,
    }),
  );
  const prefix = Buffer.allocUnsafe(prefixBytes);
  prefix.writeInt32BE(prefixBytes - lengthBytes + header.length + (body?.length ?? 0), 0);
  prefix.writeInt32BE(header.length, lengthBytes);
  return Buffer.concat(body === undefined ? [prefix, header] : [prefix, header, body]);
};

/** The first frame of `input`, or undefined while it is not complete. Throws a RangeError on what is not a frame. */
export const decodeRemoting = (input: Buffer): RemotingReply | undefined => {
  if (input.length < prefixBytes) return undefined;
  const frameBytes = input.readInt32BE(0);
  const codec = input.readUInt8(lengthBytes);
  const headerBytes = input.readUIntBE(lengthBytes + 1, 3);
  const bodyFrom = prefixBytes + headerBytes;
  const end = lengthBytes + frameBytes;
  if (frameBytes < prefixBytes - lengthBytes || frameBytes > frameBytesMax || codec !== 0 || bodyFrom > end) {
    throw notRemoting();
  }
  if (input.length < end) return undefined;
  const header = readHeader(input.toString("utf8", prefixBytes, bodyFrom));
  return {
    code: header.code,
    opaque: header.opaque,
    remark: header.remark ?? "",
    body: input.subarray(bodyFrom, end),
  };
};

const notRemoting = () => new RangeError("what answered does not speak RocketMQ's remoting protocol");

const readHeader = (text: string): { code: number; opaque: number; remark?: string } => {
  try {
    return JSON.parse(text);
  } catch {
    throw notRemoting();
  }
};
