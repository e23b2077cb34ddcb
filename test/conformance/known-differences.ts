import type { KnownDifference } from "./compare.ts";

/**
 * Where the embedded broker shows something else than RocketMQ 5.5.0, or where RocketMQ itself breaks a promise, each
 * with its reason. A difference without one here fails the run, and so does a reason that nothing needs any more.
 */
const embedded = "embedded";

export const knownDifferences: readonly KnownDifference[] = [
  {
    behaviour: "batch",
    fact: "receipts",
    target: embedded,
    clients: ["node"],
    saw: "64",
    why: "RocketMQ's proxy answers a batch with one receipt; other clients take that for a failure and send again. One for each message is what the protocol asks for.",
  },
  {
    behaviour: "ack-twice",
    fact: "change after an acknowledgement",
    target: embedded,
    clients: "all",
    saw: "error 40013",
    why: "RocketMQ takes the change and brings the acknowledged message back.",
  },
  {
    behaviour: "ack-twice",
    fact: "comes again after the change",
    target: embedded,
    clients: "all",
    saw: "no",
    why: "What is acknowledged stays acknowledged.",
  },
  {
    behaviour: "sql-filter",
    fact: "a consumer with a filter",
    target: embedded,
    clients: "all",
    saw: "error 50500",
    why: "SQL92 filters are not built here, and saying so is better than delivering too much or nothing.",
  },
  {
    behaviour: "fifo-blocked-group",
    fact: "other groups in its queue too",
    target: embedded,
    clients: "all",
    saw: "all move on",
    why: "RocketMQ keeps order by queue, so that a message group waits for its neighbours; here it waits for its own messages only.",
  },
  {
    behaviour: "consumer-refused",
    fact: "an illegal group name",
    target: embedded,
    clients: ["node", "go"],
    saw: "error 40003",
    why: "RocketMQ never says what is wrong: the Node client waits for its settings for ever, the Go client is told of an error inside the server. The other clients check the name themselves.",
  },
  {
    behaviour: "recall",
    fact: "recall again",
    target: embedded,
    clients: ["node", "java", "python"],
    saw: "ok",
    why: "Recalling what was recalled already has the effect that was asked for. RocketMQ only looks at the time in the handle, which is over by then.",
  },
  {
    behaviour: "recall",
    fact: "recall of nonsense",
    target: embedded,
    clients: ["node", "java", "python"],
    saw: "error 40000",
    why: "A handle that is none is the caller's mistake; RocketMQ calls it an error inside the server, which clients repeat.",
  },
  {
    behaviour: "restart",
    fact: "the open consumer goes on",
    target: embedded,
    clients: ["python"],
    saw: "yes",
    why: "After a restart the Python client does not send its settings again for up to nine minutes, and RocketMQ's proxy needs them for every poll. The embedded broker takes what it needs from the poll itself.",
  },
  {
    behaviour: "transaction-commit",
    fact: "other properties",
    target: embedded,
    clients: "all",
    saw: "",
    why: "RocketMQ adds its `__transactionId__` to the message's own properties.",
  },
];
