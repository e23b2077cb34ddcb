import { type Command, Option } from "commander";
import type { RemotingAdmin } from "../adapters/rocketmq/remoting-admin.ts";
import { UsageError } from "./exit-codes.ts";
import type { GlobalFlags } from "./session.ts";

/** What the commands share that speak to the brokers themselves and not to the Escapement server. */

export type BrokerFlags = { readonly broker?: string };

export const brokerOption = (): Option =>
  new Option(
    "--broker <host:port>",
    "where the broker itself listens, for most port 10911, for the embedded one 8081; several with commas",
  ).env("ROCKETMQ_ADMIN");

/** Does the same at every broker in turn; answers with their addresses. */
export const atEachBroker = async (
  flags: BrokerFlags,
  command: Command,
  act: (admin: RemotingAdmin) => Promise<void>,
): Promise<string[]> => {
  const { timeout } = command.optsWithGlobals<GlobalFlags>();
  const brokers = (flags.broker ?? "").split(",").flatMap((part) => part.trim() || []);
  if (brokers.length === 0) throw new UsageError("Say where: --broker HOST:PORT, or set ROCKETMQ_ADMIN.");
  // Loaded only here: no other command needs the broker's protocol.
  const { createRemotingAdmin } = await import("../adapters/rocketmq/remoting-admin.ts");
  const { systemTimers } = await import("../adapters/system/system-time.ts");
  const options = timeout === undefined ? {} : { timeoutMs: timeout };
  for (const broker of brokers) await act(createRemotingAdmin({ broker, timers: systemTimers, ...options }));
  return brokers;
};
