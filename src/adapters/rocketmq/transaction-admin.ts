import { requestCode } from "../../protocol/remoting-frame.ts";
import { readStoredMessages, type StoredRemotingMessage } from "../../protocol/stored-message.ts";
import type { Timers } from "../../runtime/timers.ts";
import type { DiscardedHalf, TransactionAdmin } from "../../tx/doctor/transaction-admin.port.ts";
import { askBroker, createRemotingAdmin, RemotingError, readJson } from "./remoting-admin.ts";
import { transactionalMark } from "./transactional-producer.ts";

/**
 * What a broker can be asked about transactions, in the remoting protocol.
 *
 * What surprised us: a producer group is the topic's name; one that nobody has joined is an error and not an empty list;
 * and a discarded half is found only by the place in the commit log, never by its message id.
 */
export type TransactionAdminOptions = { readonly broker: string; readonly timeoutMs?: number; readonly timers: Timers };

const replyCode = { ok: 0, systemError: 1, notFound: 19 } as const;
const discardTopic = "TRANS_CHECK_MAX_TIME_TOPIC";
const endedTopic = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
/** Both topics have this one queue. */
const queueId = "0";
const readAtOnce = 32;

export const createTransactionAdmin = (options: TransactionAdminOptions): TransactionAdmin => {
  const { broker, timers, timeoutMs = 3_000 } = options;
  const topics = createRemotingAdmin(options);

  const ask = async (code: number, fields: Readonly<Record<string, string>>, what: string) => {
    const reply = await askBroker(broker, { code, fields }, timeoutMs, timers);
    if (reply.code === replyCode.ok) return reply;
    throw new RemotingError(`the broker at ${broker} did not ${what}: ${reply.remark || reply.code}`, reply.code);
  };

  const offset = async (code: number, topic: string): Promise<number> => {
    const { fields } = await ask(code, { topic, queueId, committed: "true" }, `say how far ${topic} goes`);
    return Number(fields.offset);
  };

  return {
    broker,
    topicType: async (topic) => (await topics.topic(topic))?.type,

    async producersOf(topic) {
      const what = `name the producers of ${topic}`;
      const reply = await askBroker(
        broker,
        { code: requestCode.producersOfGroup, fields: { producerGroup: topic } },
        timeoutMs,
        timers,
      );
      if (reply.code === replyCode.systemError && reply.remark.includes("not exist")) return [];
      if (reply.code !== replyCode.ok)
        throw new RemotingError(`the broker at ${broker} did not ${what}: ${reply.remark || reply.code}`, reply.code);
      const { connectionSet = [] } = readJson(reply.body) as {
        connectionSet?: { clientId: string; clientAddr: string; language: string }[];
      };
      return connectionSet.map(({ clientId, clientAddr, language }) => ({
        clientId,
        address: clientAddr,
        language,
        ours: clientId.endsWith(`@${transactionalMark}`),
      }));
    },

    async settings() {
      const { body } = await ask(requestCode.brokerConfig, {}, "show its settings");
      return new Map(
        body
          .toString("utf8")
          .split("\n")
          .filter((line) => line.includes("="))
          .map((line) => [line.slice(0, line.indexOf("=")).trim(), line.slice(line.indexOf("=") + 1).trim()]),
      );
    },

    async version() {
      const { body } = await ask(requestCode.brokerRuntime, {}, "say its version");
      return (readJson(body) as { table?: { brokerVersionDesc?: string } }).table?.brokerVersionDesc ?? "unknown";
    },

    hasEndedTransactions: async () => (await offset(requestCode.maxOffset, endedTopic)) > 0,

    discarded: async () => ({
      first: await offset(requestCode.minOffset, discardTopic),
      next: await offset(requestCode.maxOffset, discardTopic),
    }),

    async readDiscarded(fromOffset) {
      const fields = {
        consumerGroup: "TOOLS_CONSUMER",
        topic: discardTopic,
        queueId,
        queueOffset: String(fromOffset),
        maxMsgNums: String(readAtOnce),
        sysFlag: "4", // with a subscription, without a wait
        commitOffset: "0",
        suspendTimeoutMillis: "0",
        subscription: "*",
        subVersion: "0",
        expressionType: "TAG",
      };
      const reply = await askBroker(broker, { code: requestCode.pullMessage, fields }, timeoutMs, timers);
      if (reply.code === replyCode.notFound) return [];
      if (reply.code !== replyCode.ok) {
        throw new RemotingError(
          `the broker at ${broker} did not hand out discarded messages: ${reply.remark || reply.code}`,
          reply.code,
        );
      }
      return readStoredMessages(reply.body).map(discardedHalf);
    },

    async resume(offsetId) {
      await ask(requestCode.resumeHalfMessage, { msgId: offsetId, topic: discardTopic }, `resume ${offsetId}`);
    },
  };
};

const discardedHalf = ({
  queueOffset,
  offsetId,
  storedAtMs,
  bodyBytes,
  properties,
}: StoredRemotingMessage): DiscardedHalf => {
  const id = properties.get("ESC_ID");
  const [, txId] = (properties.get("ESC_TX") ?? "").split("."); // database, transaction, half
  return {
    offset: queueOffset,
    offsetId,
    topic: properties.get("REAL_TOPIC") ?? "",
    messageId: properties.get("UNIQ_KEY") ?? "",
    checks: Number(properties.get("TRANSACTION_CHECK_TIMES") ?? 0),
    discardedAtMs: storedAtMs,
    bodyBytes,
    ...(id === undefined ? {} : { id }),
    ...(txId === undefined ? {} : { txId }),
  };
};
