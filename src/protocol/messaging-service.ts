/**
 * The names and numbers of RocketMQ's gRPC service (apache.rocketmq.v2): method paths, status codes, message types, as
 * in definition.proto and service.proto of rocketmq-client-nodejs. Client and embedded broker speak by the same table.
 */
const service = "/apache.rocketmq.v2.MessagingService";
export const method = {
  queryRoute: `${service}/QueryRoute`,
  heartbeat: `${service}/Heartbeat`,
  sendMessage: `${service}/SendMessage`,
  queryAssignment: `${service}/QueryAssignment`,
  receiveMessage: `${service}/ReceiveMessage`,
  ackMessage: `${service}/AckMessage`,
  forwardMessageToDeadLetterQueue: `${service}/ForwardMessageToDeadLetterQueue`,
  pullMessage: `${service}/PullMessage`,
  updateOffset: `${service}/UpdateOffset`,
  getOffset: `${service}/GetOffset`,
  queryOffset: `${service}/QueryOffset`,
  endTransaction: `${service}/EndTransaction`,
  telemetry: `${service}/Telemetry`,
  notifyClientTermination: `${service}/NotifyClientTermination`,
  changeInvisibleDuration: `${service}/ChangeInvisibleDuration`,
  recallMessage: `${service}/RecallMessage`,
  syncLiteSubscription: `${service}/SyncLiteSubscription`,
} as const;

export const code = {
  ok: 20000,
  multipleResults: 30000,
  badRequest: 40000,
  illegalTopic: 40002,
  illegalConsumerGroup: 40003,
  illegalMessageTag: 40004,
  illegalMessageKey: 40005,
  illegalMessageGroup: 40006,
  illegalMessagePropertyKey: 40007,
  invalidTransactionId: 40008,
  illegalMessageId: 40009,
  illegalFilterExpression: 40010,
  illegalInvisibleTime: 40011,
  illegalDeliveryTime: 40012,
  invalidReceiptHandle: 40013,
  messagePropertyConflictWithType: 40014,
  unrecognizedClientType: 40015,
  messageCorrupted: 40016,
  clientIdRequired: 40017,
  unauthorized: 40100,
  forbidden: 40300,
  messageNotFound: 40401,
  topicNotFound: 40402,
  consumerGroupNotFound: 40403,
  requestTimeout: 40800,
  payloadTooLarge: 41300,
  messageBodyTooLarge: 41301,
  messageBodyEmpty: 41302,
  tooManyRequests: 42900,
  messagePropertiesTooLarge: 43101,
  internalError: 50000,
  internalServerError: 50001,
  haNotAvailable: 50002,
  proxyTimeout: 50400,
  masterPersistenceTimeout: 50401,
  slavePersistenceTimeout: 50402,
  unsupported: 50500,
} as const;

/** Message types by their number in the protocol. */
export const messageTypeNames: ReadonlyMap<number, string> = new Map([
  [1, "NORMAL"],
  [2, "FIFO"],
  [3, "DELAY"],
  [4, "TRANSACTION"],
  [5, "LITE"],
  [6, "PRIORITY"],
]);
