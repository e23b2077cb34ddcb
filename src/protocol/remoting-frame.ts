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

/** As a broker sees it. */
export type ReceivedRemoting = RemotingRequest & {
  readonly fields: Readonly<Record<string, string>>;
  readonly body: Buffer;
  readonly opaque: number;
  /** Nobody waits for an answer. */
  readonly oneway: boolean;
};

export type RemotingReply = {
  readonly code: number;
  readonly opaque: number;
  readonly remark: string;
  readonly fields: Readonly<Record<string, string>>;
  readonly body: Buffer;
};

/** What an administrator can ask for, as far as we ask for it or answer it. */
export const requestCode = {
  pullMessage: 11,
  updateTopic: 17,
  allTopics: 21,
  brokerConfig: 26,
  brokerRuntime: 28,
  maxOffset: 30,
  minOffset: 31,
  updateGroup: 200,
  allGroups: 201,
  deleteGroup: 207,
  deleteTopic: 215,
  systemTopics: 305,
  topicConfig: 351,
  groupConfig: 352,
  producersOfGroup: 204,
  resumeHalfMessage: 323,
} as const;

/** The broker's own limit for a frame. */
const frameBytesMax = 16 * 1024 * 1024;
const lengthBytes = 4;
const prefixBytes = 8;

export const encodeRemoting = ({ code, fields = {}, body }: RemotingRequest, opaque: number): Buffer =>
  encodeFrame({ code, opaque, flag: 0, extFields: fields }, body);

export const encodeRemotingReply = (code: number, opaque: number, remark: string, body?: Buffer): Buffer =>
  encodeFrame({ code, opaque, flag: replyFlag, remark }, body);

/** The first frame of `input`, or undefined while it is not complete. Throws a RangeError on what is not a frame. */
export const decodeRemoting = (input: Buffer): RemotingReply | undefined => {
  const frame = decodeFrame(input);
  if (frame === undefined) return undefined;
  const { code, opaque, remark, extFields } = frame.header;
  return { code, opaque, remark: remark ?? "", fields: extFields ?? {}, body: frame.body };
};

/** As {@link decodeRemoting}, with the number of bytes that the frame took. */
export const decodeRemotingRequest = (
  input: Buffer,
): { readonly request: ReceivedRemoting; readonly bytes: number } | undefined => {
  const frame = decodeFrame(input);
  if (frame === undefined) return undefined;
  const { code, opaque, extFields, flag } = frame.header;
  const fields = extFields ?? {};
  const oneway = (flag & onewayFlag) !== 0;
  return { request: { code, opaque, fields, body: frame.body, oneway }, bytes: frame.bytes };
};

const replyFlag = 1;
const onewayFlag = 2;

const encodeFrame = (header: object, body: Buffer | undefined): Buffer => {
  const text = Buffer.from(
    JSON.stringify({
      language: "OTHER", // one of the names that the broker knows
      version: 0,
      serializeTypeCurrentRPC: "JSON",
      ...header,
    }),
  );
  const prefix = Buffer.allocUnsafe(prefixBytes);
  prefix.writeInt32BE(prefixBytes - lengthBytes + text.length + (body?.length ?? 0), 0);
  prefix.writeInt32BE(text.length, lengthBytes);
  return Buffer.concat(body === undefined ? [prefix, text] : [prefix, text, body]);
};

type Header = {
  code: number;
  opaque: number;
  flag: number;
  remark?: string;
  extFields?: Record<string, string>;
};

const decodeFrame = (input: Buffer): { header: Header; body: Buffer; bytes: number } | undefined => {
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
  return { header, body: input.subarray(bodyFrom, end), bytes: end };
};

const notRemoting = () => new RangeError("what answered does not speak RocketMQ's remoting protocol");

const readHeader = (text: string): Header => {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch {
    throw notRemoting();
  }
  if (typeof header !== "object" || header === null) throw notRemoting();
  return header as Header;
};
