import type { TxMessage } from "../outgoing.ts";
import { TxError } from "../tx-error.ts";
import type { TxMode } from "../tx-mode.port.ts";

/**
 * Keeps ordinary messages off topics of half messages. The broker refuses them for their type, so that they would be
 * put aside after the commit; and whoever has sent one there is asked about halves of others and answers nothing.
 */
export const refuseHalfTopic = ({ topic }: TxMessage, halfTopics: ReadonlySet<string>): void => {
  if (!halfTopics.has(topic)) return;
  throw new TxError(
    "half_topic",
    `${topic} is among half.topics, so it takes half messages only. To send by the outbox, or outside of a transaction, name a topic of another type; a topic has one type, so let configuration say which of two topics it is.`,
  );
};

/** A mode whose messages are ordinary ones. */
export const withoutHalfTopics = (mode: TxMode, halfTopics: ReadonlySet<string>): TxMode => ({
  begin(txId, owned) {
    const session = mode.begin(txId, owned);
    const send = session.send.bind(session);
    return Object.assign(session, {
      send: async (...[sql, message]: Parameters<typeof send>) => {
        refuseHalfTopic(message, halfTopics);
        return send(sql, message);
      },
    });
  },
});
