import type { RemotingAdmin } from "../../src/adapters/rocketmq/remoting-admin.ts";
import type { Target } from "./target.ts";

/** All clients begin at the same time, and the broker's JVM is cold then. */
export const adminMaxMs = 20_000;

/** Topics and groups by remoting calls, which both targets understand. */
export const administered = (admin: RemotingAdmin): Pick<Target, "createTopic" | "createGroup"> => ({
  createTopic: (name, type, queues) => admin.createTopic({ name, type, queues }),
  createGroup: (name, { orderly = false, maxAttempts }) =>
    admin.createGroup({
      name,
      orderly,
      ...(maxAttempts === undefined ? {} : { retryMaxTimes: maxAttempts - 1 }),
    }),
});
