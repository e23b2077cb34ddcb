import type { DiscardedHalf, ProducerConnection } from "./transaction-admin.port.ts";

/**
 * What the doctor makes of what it has been told. Pure: facts in, findings out, each with its evidence and, where
 * something is to be done, what. Undefined facts are "not known", which is a finding too: silence must not look healthy.
 */
export type Finding = {
  readonly code: FindingCode;
  readonly level: "ok" | "warning" | "bad" | "unknown";
  readonly about: string;
  readonly evidence: string;
  readonly advice?: string;
};

export type FindingCode =
  | "broker_unreachable"
  | "topic_type"
  | "mixed_producers"
  | "transaction_timeout"
  | "check_budget"
  | "op_marker_delay"
  | "transactions_rejected"
  | "core_spin"
  | "discarded_halves"
  | "proxy_memory"
  | "check_reachability";

export type TopicFacts = {
  readonly topic: string;
  readonly broker: string;
  /** Null: there is no such topic. */
  readonly type: string | null | undefined;
  readonly producers: readonly ProducerConnection[] | undefined;
};

export type BrokerFacts = {
  readonly broker: string;
  readonly version: string | undefined;
  readonly settings: ReadonlyMap<string, string> | undefined;
  readonly hasEnded: boolean | undefined;
  readonly discarded: DiscardedFacts | undefined;
};

export type DiscardedFacts = {
  readonly count: number;
  /** The newest of them, as far as they were read. */
  readonly read: readonly DiscardedHalf[];
};

export type ProxyFacts = {
  /** The longest time after which a half could still be ended, and the shortest after which it could not; in ms. */
  readonly remembersMs?: number;
  readonly forgotAfterMs?: number;
  readonly detail?: string;
};

export type ReachFacts = {
  readonly topic: string;
  readonly waitedMs: number;
  /** Undefined: the question did not come. */
  readonly firstCheckMs: number | undefined;
  /** What the broker had counted when it came; more than one means that others got the earlier ones. */
  readonly countedChecks?: number;
};

const advisedTimeoutMs = 60_000;
/** Below this an ordinary deployment of all producers can outlast the broker's patience. */
const checkBudgetMsMin = 300_000;
/** Until then the record that a half has ended is in the broker's memory only. */
const markerDelayMsDefault = 3_000;
const recentMs = 3_600_000;

export const unreachableFinding = (broker: string, evidence: string): Finding => ({
  code: "broker_unreachable",
  level: "bad",
  about: broker,
  evidence,
  advice: "Give the address at which the broker itself listens (10911 by default), not that of the proxy.",
});

export const topicFindings = ({ topic, broker, type, producers }: TopicFacts): Finding[] => {
  const about = `${topic} at ${broker}`;
  const findings: Finding[] = [];
  if (type === undefined)
    findings.push({ code: "topic_type", level: "unknown", about, evidence: "the broker did not say" });
  else if (type === "TRANSACTION")
    findings.push({ code: "topic_type", level: "ok", about, evidence: "type TRANSACTION" });
  else {
    findings.push({
      code: "topic_type",
      level: "bad",
      about,
      evidence: type === null ? "there is no such topic" : `type ${type}`,
      advice: `Half messages need a topic of type TRANSACTION, and with several proxies not even MIXED gets checks: escapement topics create ${topic} --type TRANSACTION --broker ${broker}${type === null ? "" : " under another name; a type cannot be changed"}.`,
    });
  }
  if (producers === undefined) {
    findings.push({
      code: "mixed_producers",
      level: "unknown",
      about,
      evidence: "the broker does not name its producers",
    });
    return findings;
  }
  const others = producers.filter(({ ours }) => !ours);
  const said = `${producers.length - others.length} of ours, ${others.length} others`;
  if (others.length > 0) {
    findings.push({
      code: "mixed_producers",
      level: "bad",
      about,
      evidence: `${said}: ${others
        .slice(0, 5)
        .map(({ clientId, address, language }) => `${clientId} (${language}, ${address})`)
        .join("; ")}`,
      advice:
        "The broker asks producers in turn, and one that only sends drops the question. Have these programs send to another topic; even one send that was refused puts a client on this list until it ends.",
    });
  } else if (producers.length === 0) {
    findings.push({
      code: "mixed_producers",
      level: "warning",
      about,
      evidence: "no producer is connected",
      advice: "Nobody can answer checks. Is the application running? Each process that sends in half mode listens.",
    });
  } else findings.push({ code: "mixed_producers", level: "ok", about, evidence: said });
  return findings;
};

export const brokerFindings = (facts: BrokerFacts, longestTransactionMs: number, nowMs: number): Finding[] => [
  ...settingFindings(facts, longestTransactionMs),
  spinFinding(facts),
  discardFinding(facts, nowMs),
];

const settingFindings = ({ broker: about, settings }: BrokerFacts, longestTransactionMs: number): Finding[] => {
  if (settings === undefined) {
    const evidence = "the broker does not show its settings";
    return [
      { code: "transaction_timeout", level: "unknown", about, evidence },
      { code: "check_budget", level: "unknown", about, evidence },
    ];
  }
  const number = (name: string, fallback: number): number => Number(settings.get(name) ?? fallback);
  const timeoutMs = number("transactionTimeOut", 6_000);
  const intervalMs = number("transactionCheckInterval", 30_000);
  const checksMax = number("transactionCheckMax", 15);
  const markerMs = number("transactionOpBatchInterval", markerDelayMsDefault);
  const neededMs = Math.max(advisedTimeoutMs, longestTransactionMs + markerMs);
  const findings: Finding[] = [];
  findings.push({
    code: "transaction_timeout",
    about,
    evidence: `transactionTimeOut=${timeoutMs}`,
    ...(timeoutMs >= neededMs
      ? { level: "ok" }
      : {
          level: "warning",
          advice: `Set transactionTimeOut=${neededMs} in broker.conf: a broker that asks while transactions are still ending delivers some of them twice, and its default of 6000 does.`,
        }),
  });
  const budgetMs = checksMax * intervalMs;
  findings.push({
    code: "check_budget",
    about,
    evidence: `transactionCheckMax=${checksMax}, transactionCheckInterval=${intervalMs}: a half is put aside after ${Math.round(budgetMs / 1000)} s without an answer`,
    ...(budgetMs >= checkBudgetMsMin
      ? { level: "ok" }
      : {
          level: "warning",
          advice:
            "Checks are counted while no producer is connected, too: raise transactionCheckMax above the longest time that all of them can be away.",
        }),
  });
  if (markerMs >= timeoutMs) {
    findings.push({
      code: "op_marker_delay",
      level: "bad",
      about,
      evidence: `transactionOpBatchInterval=${markerMs} is not below transactionTimeOut=${timeoutMs}`,
      advice:
        "The broker asks about transactions whose end it has not written yet, and each answer is a copy: raise transactionTimeOut.",
    });
  }
  if (settings.get("rejectTransactionMessage") === "true") {
    findings.push({
      code: "transactions_rejected",
      level: "bad",
      about,
      evidence: "rejectTransactionMessage=true",
      advice: "This broker takes no half messages: set it to false, or send these topics in outbox mode.",
    });
  }
  return findings;
};

const spinFinding = ({ broker: about, version, hasEnded }: BrokerFacts): Finding => {
  if (version === undefined || hasEnded === undefined) {
    return {
      code: "core_spin",
      level: "unknown",
      about,
      evidence: "the broker does not say its version or what it has done",
    };
  }
  const evidence = `${version}, ${hasEnded ? "has" : "has not"} ended transactions`;
  if (version !== "V5_5_0") return { code: "core_spin", level: "ok", about, evidence };
  return {
    code: "core_spin",
    level: "warning",
    about,
    evidence,
    advice:
      "5.5.0 keeps a whole core busy from the first ended transaction after its start on (thread TransactionalOpBatchService). Count on one core less, measure nothing else on it, and look for a later release; a huge transactionOpBatchInterval stalls it under load instead.",
  };
};

const discardFinding = ({ broker: about, discarded }: BrokerFacts, nowMs: number): Finding => {
  const code = "discarded_halves";
  if (discarded === undefined)
    return { code, level: "unknown", about, evidence: "the broker does not show TRANS_CHECK_MAX_TIME_TOPIC" };
  const { count, read } = discarded;
  if (count === 0) return { code, level: "ok", about, evidence: "none" };
  const topics = [...Map.groupBy(read, ({ topic }) => topic)].map(
    ([topic, halves]) => `${topic || "?"} ${halves.length}`,
  );
  const recent = read.filter(({ discardedAtMs }) => nowMs - discardedAtMs < recentMs).length;
  const newest = read.at(-1);
  return {
    code,
    level: "warning",
    about,
    evidence: `${count} in all; of the newest ${read.length}, ${recent} in the last hour (${topics.join(", ")})${newest === undefined ? "" : `; the newest ${new Date(newest.discardedAtMs).toISOString()}`}`,
    advice:
      "Nobody answered these in time. Those of half mode are sent again by its backstop when they were committed. Look: escapement tx discarded list; a foreign one can be asked about once more: escapement tx discarded resume.",
  };
};

export const proxyFinding = (where: string, facts: ProxyFacts | undefined, longestTransactionMs: number): Finding => {
  const code = "proxy_memory";
  const endpoint = where || "the proxy";
  const raise =
    "Raise transactionDataExpireMillis in rmq-proxy.json above the longest transaction; until then slow ones are visible only after a check.";
  if (facts === undefined) {
    return {
      code,
      level: "unknown",
      about: endpoint,
      evidence: "not measured; a proxy does not tell, and its default is 30 s",
      advice:
        "Measure it with --proxy-memory (half a minute), or see that transactionDataExpireMillis is above the longest transaction.",
    };
  }
  const { remembersMs, forgotAfterMs, detail } = facts;
  if (forgotAfterMs !== undefined) {
    const level = forgotAfterMs <= longestTransactionMs ? "warning" : "ok";
    const evidence = `a half was forgotten after ${forgotAfterMs} ms${detail === undefined ? "" : ` (${detail})`}`;
    return { code, level, about: endpoint, evidence, ...(level === "ok" ? {} : { advice: raise }) };
  }
  return {
    code,
    level: remembersMs !== undefined && remembersMs >= longestTransactionMs ? "ok" : "unknown",
    about: endpoint,
    evidence:
      remembersMs === undefined
        ? (detail ?? "the half could not be sent")
        : `a half was still known after ${remembersMs} ms`,
  };
};

export const reachFinding = (topic: string, facts: ReachFacts | undefined): Finding => {
  const code = "check_reachability";
  if (facts === undefined) {
    return {
      code,
      level: "unknown",
      about: topic,
      evidence:
        "not tried; it leaves a half open until the broker asks, which takes transactionTimeOut and up to an interval more",
      advice: "Try it with --wait-for-check.",
    };
  }
  const { waitedMs, firstCheckMs, countedChecks = 1 } = facts;
  if (firstCheckMs === undefined) {
    return {
      code,
      level: "bad",
      about: topic,
      evidence: `a half was left open for ${waitedMs} ms and nobody asked us about it`,
      advice:
        "Other producers may have got the question (see mixed_producers), transactionTimeOut may be longer than this wait, or the proxies do not pass questions on: the topic's type must be exactly TRANSACTION.",
    };
  }
  const evidence = `asked after ${firstCheckMs} ms, at check ${countedChecks}`;
  if (countedChecks <= 1) return { code, level: "ok", about: topic, evidence };
  return {
    code,
    level: "warning",
    about: topic,
    evidence,
    advice:
      "Earlier questions went to other producers of this topic. Those of this application put them off; others lose them.",
  };
};
