/**
 * Property names that a user's message may not carry. Two kinds, refused alike:
 *
 * - names that the RocketMQ proxy itself refuses (its constant STRING_HASH_SET in MessageConst): a message with one of
 *   them would be accepted here and die at its due time;
 * - names that the proxy lets through but the broker acts on. A user property `TIMER_DELIVER_MS` or `DELAY` would
 *   delay the message a second time, `__SHARDINGKEY` would move it to another queue, `INNER_NUM` makes a broker unpack
 *   the body as a batch. What surprised us: the proxy's list is not a list of what is dangerous.
 *
 * And everything that begins with `ESC_`, which is ours.
 */
const reservedNames: ReadonlySet<string> = new Set([
  // Refused by the proxy.
  "KEYS",
  "TAGS",
  "WAIT",
  "DELAY",
  "RETRY_TOPIC",
  "REAL_TOPIC",
  "REAL_QID",
  "TRAN_MSG",
  "PGROUP",
  "MIN_OFFSET",
  "MAX_OFFSET",
  "BUYER_ID",
  "ORIGIN_MESSAGE_ID",
  "TRANSFER_FLAG",
  "CORRECTION_FLAG",
  "MQ2_FLAG",
  "RECONSUME_TIME",
  "MSG_REGION",
  "TRACE_ON",
  "UNIQ_KEY",
  "EXTEND_UNIQ_INFO",
  "MAX_RECONSUME_TIMES",
  "CONSUME_START_TIME",
  "POP_CK",
  "POP_CK_OFFSET",
  "1ST_POP_TIME",
  "TRAN_PREPARED_QUEUE_OFFSET",
  "DUP_INFO",
  "INSTANCE_ID",
  "CORRELATION_ID",
  "REPLY_TO_CLIENT",
  "TTL",
  "ARRIVE_TIME",
  "PUSH_REPLY_TIME",
  "CLUSTER",
  "MSG_TYPE",
  "INNER_MULTI_QUEUE_OFFSET",
  "BORN_TIMESTAMP",
  "DLQ_ORIGIN_TOPIC",
  "DLQ_ORIGIN_MESSAGE_ID",
  "__BORNHOST",
  "__CRC32#",
  // Let through, but they mean something to a broker or a client.
  "CHECK_IMMUNITY_TIME_IN_SECONDS",
  "INNER_BASE",
  "INNER_MULTI_DISPATCH",
  "INNER_NUM",
  "PROPERTY_FORWARD_QUEUE_ID",
  "REDIRECT",
  "TRACE_CONTEXT",
  "TRANSACTION_CHECK_TIMES",
  "_SYS_MSG_PRIORITY_",
  "__LITE_TOPIC",
  "__SHARDINGKEY",
  "__transactionId__",
]);

/** Families of names: RocketMQ's timer and transient properties, and our own. */
const reservedPrefixes = ["TIMER_", "__RMQ.", "ESC_"] as const;

/** Names that JavaScript objects give a meaning to; kept out so that no client can be tripped by them. */
const objectNames: ReadonlySet<string> = new Set(["__proto__", "constructor", "prototype"]);

export const isReservedProperty = (name: string): boolean => {
  if (reservedNames.has(name)) return true;
  for (const prefix of reservedPrefixes) if (name.startsWith(prefix)) return true;
  return false;
};

export const isObjectName = (name: string): boolean => objectNames.has(name);

/** For documentation and tests. */
export const reservedPropertyNames: readonly string[] = [...reservedNames];
export const reservedPropertyPrefixes: readonly string[] = reservedPrefixes;
