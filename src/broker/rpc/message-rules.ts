import { isUtf8 } from "node:buffer";
import { code } from "../../protocol/messaging-service.ts";
import { BrokerError } from "../broker-error.ts";

/**
 * What a message may look like: the rules of the real proxy with its default configuration (SendMessageActivity,
 * GrpcValidator and ProxyConfig of RocketMQ 5.5.0), with its codes. They look at bytes, because nearly all text in a
 * message goes through the broker without becoming a string.
 *
 * One rule is ours: text must be UTF-8. The real proxy's parser sees to that; here a message with broken text would
 * be stored, and then every Java and Go consumer would fail on it.
 */
export const messageLimits = {
  bodyBytesMax: 4 * 1024 * 1024,
  userPropertiesMax: 128,
  /** Names and values of properties, tag and keys together. */
  userPropertyBytesMax: 16 * 1024,
  /** The proxy wants less than 64. */
  messageGroupBytesMax: 63,
  /** A client's own invention, as long as this; the real one has no rule and refuses by its 32 KiB of properties. */
  messageIdBytesMax: 255,
  /** Everything that is not the body. */
  systemPropertyBytesMax: 32 * 1024,
} as const;

/** Names that RocketMQ keeps for itself (MessageConst.STRING_HASH_SET). */
const reservedProperties: ReadonlySet<string> = new Set(
  (
    "KEYS TAGS WAIT DELAY RETRY_TOPIC REAL_TOPIC REAL_QID TRAN_MSG PGROUP MIN_OFFSET MAX_OFFSET BUYER_ID " +
    "ORIGIN_MESSAGE_ID TRANSFER_FLAG CORRECTION_FLAG MQ2_FLAG RECONSUME_TIME MSG_REGION TRACE_ON UNIQ_KEY " +
    "EXTEND_UNIQ_INFO MAX_RECONSUME_TIMES CONSUME_START_TIME POP_CK POP_CK_OFFSET 1ST_POP_TIME " +
    "TRAN_PREPARED_QUEUE_OFFSET DUP_INFO INSTANCE_ID CORRELATION_ID REPLY_TO_CLIENT TTL ARRIVE_TIME PUSH_REPLY_TIME " +
    "CLUSTER MSG_TYPE INNER_MULTI_QUEUE_OFFSET TIMER_DELIVER_MS TIMER_OUT_MS TIMER_DELAY_SEC TIMER_DELAY_MS " +
    "TIMER_ENQUEUE_MS TIMER_DEQUEUE_MS TIMER_ROLL_TIMES TIMER_DEL_UNIQKEY TIMER_DELAY_LEVEL " +
    "__BORNHOST BORN_TIMESTAMP DLQ_ORIGIN_TOPIC DLQ_ORIGIN_MESSAGE_ID __CRC32#"
  ).split(" "),
);
const reservedBytesMax = Math.max(...[...reservedProperties].map((name) => name.length));

export const checkPropertyName = (name: Buffer): void => {
  checkText(name, code.illegalMessagePropertyKey, "the name of a property");
  if (name.length > reservedBytesMax) return;
  const text = name.toString("latin1");
  if (reservedProperties.has(text)) {
    throw new BrokerError(code.illegalMessagePropertyKey, `the property name ${text} is used by RocketMQ itself`);
  }
};

export const checkPropertyValue = (value: Buffer): void =>
  checkText(value, code.illegalMessagePropertyKey, "the value of a property");

export const checkTag = (tag: Buffer): void => {
  checkWord(tag, code.illegalMessageTag, "the tag");
  if (tag.includes(pipe)) throw new BrokerError(code.illegalMessageTag, "the tag must not contain '|'");
};

export const checkKey = (key: Buffer): void => checkWord(key, code.illegalMessageKey, "a message key");

export const checkMessageGroup = (group: Buffer): void => {
  checkWord(group, code.illegalMessageGroup, "the message group");
  if (group.length > messageLimits.messageGroupBytesMax) {
    throw new BrokerError(
      code.illegalMessageGroup,
      `the message group takes ${group.length} bytes, ${messageLimits.messageGroupBytesMax} are allowed`,
    );
  }
};

export const checkMessageId = (id: Buffer): void => {
  if (isBlank(id)) throw new BrokerError(code.illegalMessageId, "the message id must not be empty");
  checkText(id, code.illegalMessageId, "the message id");
  if (id.length > messageLimits.messageIdBytesMax) {
    throw new BrokerError(code.illegalMessageId, `the message id is longer than ${messageLimits.messageIdBytesMax}`);
  }
};

export const checkBody = (body: Buffer): void => {
  if (body.length === 0) throw new BrokerError(code.messageBodyEmpty, "the message body must not be empty");
  if (body.length > messageLimits.bodyBytesMax) {
    throw new BrokerError(
      code.messageBodyTooLarge,
      `the message body takes ${body.length} bytes, ${messageLimits.bodyBytesMax} are allowed`,
    );
  }
};

export const checkProperties = (count: number, bytes: number): void => {
  if (count > messageLimits.userPropertiesMax) {
    throw new BrokerError(
      code.messagePropertiesTooLarge,
      `the message has ${count} user properties, ${messageLimits.userPropertiesMax} are allowed`,
    );
  }
  if (bytes > messageLimits.userPropertyBytesMax) {
    throw new BrokerError(
      code.messagePropertiesTooLarge,
      `user properties, tag and keys take ${bytes} bytes together, ${messageLimits.userPropertyBytesMax} are allowed`,
    );
  }
};

const pipe = 0x7c;
const space = 0x20;

const checkWord = (text: Buffer, status: number, what: string): void => {
  if (text.length === 0) return;
  checkText(text, status, what);
  if (isBlank(text)) throw new BrokerError(status, `${what} must not consist of blanks`);
};

/** No control characters (RocketMQ separates properties with two of them), and UTF-8. */
const checkText = (text: Buffer, status: number, what: string): void => {
  let all = 0;
  for (let i = 0; i < text.length; i++) {
    const byte = text[i]!;
    if (byte < space) throw new BrokerError(status, `${what} must not contain control characters`);
    all |= byte;
  }
  if (all > 0x7f) checkUtf8(text, status, what);
};

export const checkUtf8 = (text: Buffer, status: number, what: string): void => {
  if (!isUtf8(text)) throw new BrokerError(status, `${what} must be UTF-8`);
};

const isBlank = (text: Buffer): boolean => {
  for (let i = 0; i < text.length; i++) if (text[i]! !== space) return false;
  return true;
};
