import type { BrokerMessage } from "./broker-message.ts";

/** Where messages wait until they are due: the delay server itself, in small. */
export interface DelayRoom {
  /** @returns the name under which it can be recalled, once it is durable. */
  schedule(message: BrokerMessage, deliverAtMs: number): Promise<string>;
  recall(name: string): Promise<"recalled" | "too_late" | "unknown">;
  close(): Promise<void>;
}
