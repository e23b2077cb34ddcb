import { type Consuming, consumeAll } from "../rocketmq-consumer.ts";
import type { LedgerQueue } from "./ledger.ts";
import { fingerprint, serialProperty } from "./load-plan.ts";

/** Official consumers on the target topics that write every copy they get into the ledger. */
export type Witness = {
  readonly strangers: () => number;
  stop(): Promise<void>;
};

export const startWitness = async (options: {
  readonly endpoint: string;
  readonly topics: readonly { readonly name: string; readonly group: string }[];
  readonly invisibleMs?: number;
  readonly ledger: LedgerQueue;
  readonly onCopy: (serial: number) => void;
}): Promise<Witness> => {
  const { endpoint, topics, ledger, onCopy, invisibleMs } = options;
  let strangers = 0;
  const starts = await Promise.allSettled(
    topics.map(({ name, group }) =>
      consumeAll({
        endpoint,
        topic: name,
        group,
        pollers: 3,
        ...(invisibleMs === undefined ? undefined : { invisibleMs }),
        onMessage: (message) => {
          const { properties } = message;
          const serial = Number(properties.get(serialProperty) ?? Number.NaN);
          if (!Number.isInteger(serial)) {
            strangers++;
            return;
          }
          ledger.push({
            kind: "copy",
            serial,
            receivedMs: Date.now(),
            bornMs: message.bornTimestamp?.getTime() ?? 0,
            id: properties.get("ESC_ID") ?? "",
            attempt: Number(properties.get("ESC_ATTEMPT")),
            deliverAtMs: Number(properties.get("ESC_DELIVER_AT")),
            brokerMessageId: message.messageId,
            offset: message.offset ?? -1,
            crc: fingerprint(message.body, properties),
            topic: message.topic,
          });
          onCopy(serial);
        },
      }),
    ),
  );
  const consuming: Consuming[] = starts.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  const failed = starts.find((one) => one.status === "rejected");
  if (failed !== undefined) {
    await Promise.all(consuming.map((one) => one.stop()));
    throw failed.reason;
  }
  return {
    strangers: () => strangers,
    async stop() {
      await Promise.all(consuming.map((one) => one.stop()));
    },
  };
};
