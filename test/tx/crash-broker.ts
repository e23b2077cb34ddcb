import { createRemotingAdmin, type NewTopic } from "../../src/adapters/rocketmq/remoting-admin.ts";
import { startBroker } from "../../src/start-broker.ts";
import { parts } from "./lab.ts";

/**
 * The broker that the killed programs send to: one of ours in this process, or a real RocketMQ. Both ask about a half
 * soon, as brokers in operation do not.
 */
export type CrashBroker = AsyncDisposable & {
  readonly endpoint: string;
  /** Where topics and groups are made. */
  readonly admin: string;
  createTopic(topic: NewTopic): Promise<void>;
  createGroup(name: string): Promise<void>;
};

/** What RocketMQ has to be started with. */
export const crashBrokerConfig = { transactionTimeOut: 1_000, transactionCheckInterval: 500 };

export const embeddedBroker = async (): Promise<CrashBroker> => {
  const broker = await startBroker({ transactionCheckMs: 500 });
  return { ...administered(broker.endpoint, broker.endpoint), [Symbol.asyncDispose]: () => broker.stop() };
};

/** It goes on running: the next round uses it, too. */
export const realBroker = ({
  endpoint,
  broker,
}: {
  readonly endpoint: string;
  readonly broker: string;
}): CrashBroker => ({
  ...administered(endpoint, broker),
  async [Symbol.asyncDispose]() {},
});

const administered = (endpoint: string, admin: string) => {
  const remoting = createRemotingAdmin({ broker: admin, timers: parts.timers });
  return {
    endpoint,
    admin,
    createTopic: (topic: NewTopic) => remoting.createTopic(topic),
    createGroup: (name: string) => remoting.createGroup({ name }),
  };
};
