import { describe, expect, it } from "vitest";
import { examine } from "./doctor.ts";
import { type BrokerFacts, brokerFindings, proxyFinding, reachFinding, topicFindings } from "./findings.ts";

const ours = { clientId: "a@1@x@escapement-tx", address: "10.0.0.1:5", language: "OTHER", ours: true };
const plain = { clientId: "b@2@y", address: "10.0.0.2:5", language: "JAVA", ours: false };
const topic = { topic: "orders_tx", broker: "b:10911", type: "TRANSACTION", producers: [ours] };
const levels = (findings: readonly { code: string; level: string }[]) =>
  Object.fromEntries(findings.map(({ code, level }) => [code, level]));

const good: BrokerFacts = {
  broker: "b:10911",
  version: "V5_6_0",
  hasEnded: true,
  discarded: { count: 0, read: [] },
  settings: new Map([
    ["transactionTimeOut", "66000"],
    ["transactionCheckMax", "15"],
    ["transactionCheckInterval", "30000"],
    ["transactionOpBatchInterval", "3000"],
  ]),
};
const nowMs = 1_800_000_000_000;
const withSettings = (over: Record<string, string>): BrokerFacts => ({
  ...good,
  settings: new Map([...good.settings!, ...Object.entries(over)]),
});

describe("the doctor", () => {
  it("finds nothing where there is nothing", () => {
    expect(levels(topicFindings(topic))).toEqual({ topic_type: "ok", mixed_producers: "ok" });
    expect(levels(brokerFindings(good, 60_000, nowMs))).toEqual({
      transaction_timeout: "ok",
      check_budget: "ok",
      core_spin: "ok",
      discarded_halves: "ok",
    });
  });

  it("TX-20: names the producers that would lose checks", () => {
    const [, mixed] = topicFindings({ ...topic, producers: [ours, plain] });
    expect(mixed).toMatchObject({ code: "mixed_producers", level: "bad" });
    expect(mixed!.evidence).toBe("1 of ours, 1 others: b@2@y (JAVA, 10.0.0.2:5)");
    expect(levels(topicFindings({ ...topic, producers: [] })).mixed_producers).toBe("warning");
  });

  it("takes no type but TRANSACTION, not even one that takes all", () => {
    for (const type of ["NORMAL", "MIXED", null])
      expect(levels(topicFindings({ ...topic, type })).topic_type).toBe("bad");
  });

  it("advises 60 s, or more for transactions that take longer, and warns of the broker's default", () => {
    const stock = brokerFindings(withSettings({ transactionTimeOut: "6000" }), 60_000, nowMs);
    expect(stock[0]).toMatchObject({
      code: "transaction_timeout",
      level: "warning",
      evidence: "transactionTimeOut=6000",
    });
    expect(stock[0]!.advice).toContain("transactionTimeOut=63000");
    expect(levels(brokerFindings(good, 120_000, nowMs)).transaction_timeout).toBe("warning");
    // A broker that names none of its settings has its defaults.
    expect(levels(brokerFindings({ ...good, settings: new Map() }, 1_000, nowMs)).transaction_timeout).toBe("warning");
  });

  it("warns of a short patience, of ends that are written after the question, and of a broker that takes none", () => {
    expect(levels(brokerFindings(withSettings({ transactionCheckMax: "5" }), 1, nowMs)).check_budget).toBe("warning");
    const slow = withSettings({ transactionTimeOut: "2000", transactionOpBatchInterval: "3000" });
    expect(levels(brokerFindings(slow, 1, nowMs)).op_marker_delay).toBe("bad");
    const closed = withSettings({ rejectTransactionMessage: "true" });
    expect(levels(brokerFindings(closed, 1, nowMs)).transactions_rejected).toBe("bad");
  });

  it("knows the core that 5.5.0 loses", () => {
    expect(levels(brokerFindings({ ...good, version: "V5_5_0" }, 1, nowMs)).core_spin).toBe("warning");
  });

  it("counts what was put aside, by topic and how lately", () => {
    const half = { offset: 0, offsetId: "0A", messageId: "m", checks: 15, bodyBytes: 1 };
    const read = [
      { ...half, topic: "a", discardedAtMs: nowMs - 7_200_000 },
      { ...half, topic: "b", discardedAtMs: nowMs - 60_000 },
      { ...half, topic: "b", discardedAtMs: nowMs - 1_000 },
    ];
    const found = brokerFindings({ ...good, discarded: { count: 40, read } }, 1, nowMs).at(-1)!;
    expect(found.level).toBe("warning");
    expect(found.evidence).toBe(
      "40 in all; of the newest 3, 2 in the last hour (a 1, b 2); the newest 2027-01-15T07:59:59.000Z",
    );
  });

  it("says that it does not know where it was not told", () => {
    const nothing = { broker: "b", version: undefined, settings: undefined, hasEnded: undefined, discarded: undefined };
    const findings = [
      ...topicFindings({ ...topic, type: undefined, producers: undefined }),
      ...brokerFindings(nothing, 60_000, nowMs),
      reachFinding("t", undefined),
      proxyFinding("p", undefined, 60_000),
    ];
    expect(findings.map(({ level }) => level)).toEqual(findings.map(() => "unknown"));
    expect(findings).toHaveLength(8);
  });

  it("is not healthy where no broker answers", async () => {
    const silent = async () => {
      throw new Error("connect ECONNREFUSED");
    };
    const brokers = [{ broker: "b:1", topicType: silent } as never];
    const world = { clock: { nowMs: () => nowMs as never, monotonicMs: () => 0 }, timers: undefined as never };
    const { healthy, findings } = await examine({ topics: ["t"], brokers, endpoint: "", ...world });
    expect(healthy).toBe(false);
    expect(findings[0]).toMatchObject({ code: "broker_unreachable", about: "b:1", evidence: "connect ECONNREFUSED" });
  });

  it("reads its probes", () => {
    const reached = { topic: "t", waitedMs: 61_000, firstCheckMs: 61_000 };
    expect(reachFinding("t", reached).level).toBe("ok");
    expect(reachFinding("t", { ...reached, countedChecks: 3 }).level).toBe("warning");
    expect(reachFinding("t", { ...reached, firstCheckMs: undefined }).level).toBe("bad");
    expect(proxyFinding("p", { remembersMs: 60_000 }, 60_000).level).toBe("ok");
    expect(proxyFinding("p", { remembersMs: 10_000 }, 60_000).level).toBe("unknown");
    expect(proxyFinding("p", { forgotAfterMs: 31_000 }, 60_000).level).toBe("warning");
    expect(proxyFinding("p", { forgotAfterMs: 31_000 }, 5_000).level).toBe("ok");
  });
});
