import type { Clock } from "../../runtime/clock.ts";
import { sleep, type Timers } from "../../runtime/timers.ts";
import type { HalfCheck, OpenHalf } from "../half/half-broker.port.ts";
import {
  type BrokerFacts,
  brokerFindings,
  type DiscardedFacts,
  type Finding,
  type ProxyFacts,
  proxyFinding,
  type ReachFacts,
  reachFinding,
  topicFindings,
  unreachableFinding,
} from "./findings.ts";
import type { TransactionAdmin } from "./transaction-admin.port.ts";

/**
 * Asks a live cluster whether transactional messages can work on it, and says what it found. It changes nothing; the two
 * probes that send a half message roll it back, and run only when they are asked for, because they take time.
 */
export type DoctorOptions = {
  readonly topics: readonly string[];
  readonly brokers: readonly TransactionAdmin[];
  readonly endpoint: string;
  /** For the probes: a producer of halves whose checks come to `onCheck`. */
  readonly probe?: ProbeBroker;
  /** How long the business's transactions may take. */
  readonly longestTransactionMs?: number;
  /** Leave a half open, for at most so long, and see whether the broker asks us. */
  readonly waitForCheckMs?: number;
  /** Leave a half open for so long, and see whether the proxy still knows it. */
  readonly proxyMemoryMs?: number;
  readonly clock: Clock;
  readonly timers: Timers;
};

export type ProbeBroker = {
  send(topic: string, probe: string): Promise<OpenHalf | { readonly refused: string }>;
  rollback(half: OpenHalf): Promise<{ readonly ok: boolean; readonly detail?: string }>;
  /** The last one given is asked about each check; "rollback" ends the probe. */
  onCheck(answer: (check: HalfCheck) => "rollback" | undefined): void;
};

export type DoctorReport = { readonly healthy: boolean; readonly findings: readonly Finding[] };

/** In the properties of a half that only asks whether it is asked about. */
export const probeProperty = "ESC_PROBE";

/** Longer ones are rare, and with it the advice of 60 s for transactionTimeOut leaves room for what the broker delays. */
const longestTransactionMsDefault = 30_000;
const discardedReadMax = 200;

export const examine = async (options: DoctorOptions): Promise<DoctorReport> => {
  const { topics, brokers, endpoint, clock, longestTransactionMs = longestTransactionMsDefault } = options;
  const findings: Finding[] = [];
  for (const admin of brokers) {
    // Every broker can say this, the embedded one too; who does not is not there, and silence must not look healthy.
    const silence = await admin.topicType(topics[0] ?? "").then(
      () => undefined,
      (error: unknown) => unreachableFinding(admin.broker, error instanceof Error ? error.message : String(error)),
    );
    if (silence !== undefined) {
      findings.push(silence);
      continue;
    }
    for (const topic of topics) {
      const [type, producers] = await Promise.all([
        known(admin.topicType(topic).then((found) => found ?? null)),
        known(admin.producersOf(topic)),
      ]);
      findings.push(...topicFindings({ topic, broker: admin.broker, type, producers }));
    }
    findings.push(...brokerFindings(await factsOf(admin), longestTransactionMs, clock.nowMs()));
  }
  // One after the other: the half that waits for a check must not be asked about in place of the other.
  for (const topic of topics) findings.push(reachFinding(topic, await reach(options, topic)));
  findings.push(proxyFinding(endpoint, await proxyMemory(options), longestTransactionMs));
  return { healthy: findings.every(({ level }) => level !== "bad"), findings };
};

/** Undefined when it was not said, for whatever reason. */
const known = async <T>(answer: Promise<T>): Promise<T | undefined> => answer.catch(() => undefined);

const factsOf = async (admin: TransactionAdmin): Promise<BrokerFacts> => {
  const [version, settings, hasEnded, discarded] = await Promise.all([
    known(admin.version()),
    known(admin.settings()),
    known(admin.hasEndedTransactions()),
    known(discardedFacts(admin)),
  ]);
  return { broker: admin.broker, version, settings, hasEnded, discarded };
};

const discardedFacts = async (admin: TransactionAdmin): Promise<DiscardedFacts> => {
  const { first, next } = await admin.discarded();
  const read = [];
  for (let from = Math.max(first, next - discardedReadMax); from < next; ) {
    const page = await admin.readDiscarded(from);
    if (page.length === 0) break;
    read.push(...page);
    from = page.at(-1)!.offset + 1;
  }
  return { count: next - first, read };
};

const reach = async (options: DoctorOptions, topic: string): Promise<ReachFacts | undefined> => {
  const { probe, waitForCheckMs, clock, timers } = options;
  if (probe === undefined || waitForCheckMs === undefined) return undefined;
  const name = `reach-${topic}-${clock.nowMs()}`;
  const asked = new AbortController();
  let countedChecks: number | undefined;
  probe.onCheck(({ properties }) => {
    if (properties.get(probeProperty) !== name) return undefined;
    countedChecks ??= Number(properties.get("TRANSACTION_CHECK_TIMES") ?? 1);
    asked.abort();
    return "rollback";
  });
  const sentAtMs = clock.monotonicMs();
  const half = await probe.send(topic, name);
  if ("refused" in half) return { topic, waitedMs: 0, firstCheckMs: undefined };
  await sleep(timers, waitForCheckMs, asked.signal);
  const waitedMs = Math.round(clock.monotonicMs() - sentAtMs);
  if (countedChecks !== undefined) return { topic, waitedMs, firstCheckMs: waitedMs, countedChecks };
  await probe.rollback(half);
  return { topic, waitedMs, firstCheckMs: undefined };
};

const proxyMemory = async (options: DoctorOptions): Promise<ProxyFacts | undefined> => {
  const { probe, proxyMemoryMs, topics, clock, timers } = options;
  const [topic] = topics;
  if (probe === undefined || proxyMemoryMs === undefined || topic === undefined) return undefined;
  let wasAsked = false;
  probe.onCheck(() => {
    wasAsked = true;
    return undefined;
  });
  const half = await probe.send(topic, `memory-${clock.nowMs()}`);
  if ("refused" in half) return { detail: half.refused };
  await sleep(timers, proxyMemoryMs);
  const ended = await probe.rollback(half);
  // A question gives the proxy the transaction anew, so that its memory was not what was measured.
  if (wasAsked)
    return { detail: "the broker asked meanwhile, which renews the proxy's memory; raise transactionTimeOut first" };
  if (ended.ok) return { remembersMs: proxyMemoryMs };
  return { forgotAfterMs: proxyMemoryMs, ...(ended.detail === undefined ? {} : { detail: ended.detail }) };
};
