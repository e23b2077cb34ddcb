import { describe, expect, it } from "vitest";
import { durationMs, epochMs } from "../message/time.ts";
import type { RetryEnvelope } from "../retry/envelope.ts";
import { silentLog } from "../runtime/log.ts";
import type { ConsumerSyncReply } from "../wire/consumer-sync.ts";
import type { RetryPolicyInput } from "../wire/http.ts";
import { type GivenPolicy, KnownPolicies } from "./known-policies.ts";

const envelope = (policy: string, attempt = 1): RetryEnvelope => ({
  group: "g",
  originTopic: "t",
  originId: "i",
  originBornAtMs: epochMs(0),
  hop: 1,
  attempt,
  crashes: 0,
  parkedMs: durationMs(0),
  policy,
  history: [],
  replays: 0,
  redirects: 0,
});
const fresh = envelope("none@0", 0);
const every = (delay: string, more: object = {}): RetryPolicyInput => ({ backoff: { kind: "fixed", delay }, ...more });
const bound = (tag: string, ...policies: NonNullable<ConsumerSyncReply["policies"]>["bound"]): ConsumerSyncReply => ({
  policies: { tag, bound: policies },
  dependencies: [],
});
const known = (given: GivenPolicy) => {
  const warnings: string[] = [];
  const log = {
    ...silentLog,
    warn: (_: object, text: string) => void warnings.push(text),
  } as unknown as typeof silentLog;
  return { policies: new KnownPolicies(given, log), warnings };
};
const labelOf = (policies: KnownPolicies, topic = "t", tag?: string, of = fresh) => policies.of(topic, tag, of).label;

describe("the policies that a consumer knows", () => {
  it("are the preset default until the service has answered, and stay when it is away", () => {
    const { policies } = known({ kind: "bound" });
    expect(labelOf(policies)).toBe("default@0");
    policies.take(bound("1", { name: "sms", version: 3, policy: every("5s") }));
    expect(labelOf(policies)).toBe("sms@3");
    expect(policies.request()).toEqual({ policiesTag: "1" });
    policies.take({ dependencies: [] });
    expect(labelOf(policies)).toBe("sms@3");
  });

  it("hold by topic and tag, the most special first as the service lists them", () => {
    const { policies } = known({ kind: "bound" });
    policies.take(
      bound(
        "1",
        { name: "both", version: 1, policy: {}, topic: "t", messageTag: "x" },
        { name: "topic", version: 1, policy: {}, topic: "t" },
        { name: "all", version: 1, policy: {} },
      ),
    );
    expect(["x", "y", undefined].map((tag) => labelOf(policies, "t", tag))).toEqual(["both@1", "topic@1", "topic@1"]);
    expect(labelOf(policies, "other", "x")).toBe("all@1");
  });

  it("RT-16 a new version is adopted by messages in flight, or kept from them, as it says itself", () => {
    const { policies } = known({ kind: "named", name: "sms" });
    expect(policies.request()).toEqual({ policy: "sms" });
    policies.take(bound("1", { name: "sms", version: 1, policy: every("1s") }));
    policies.take(bound("2", { name: "sms", version: 2, policy: every("2s") }));
    expect(labelOf(policies, "t", undefined, envelope("sms@1"))).toBe("sms@2");
    policies.take(bound("3", { name: "sms", version: 3, policy: every("3s", { inFlight: "keep" }) }));
    expect(labelOf(policies, "t", undefined, envelope("sms@1"))).toBe("sms@1");
    expect(labelOf(policies, "t", undefined, fresh)).toBe("sms@3");
    expect(labelOf(policies, "t", undefined, envelope("other@1"))).toBe("sms@3");
  });

  it("asks for versions it never saw, and goes by the newest until it has them, or when they are gone", () => {
    const { policies } = known({ kind: "named", name: "sms" });
    policies.take(bound("1", { name: "sms", version: 9, policy: every("1s", { inFlight: "keep" }) }));
    expect(labelOf(policies, "t", undefined, envelope("sms@4"))).toBe("sms@9");
    expect(policies.request()).toMatchObject({ versionsWanted: ["sms@4"] });
    policies.take({ dependencies: [], versions: [{ name: "sms", version: 4, policy: every("4s") }] });
    expect(policies.of("t", undefined, envelope("sms@4"))).toMatchObject({
      label: "sms@4",
      policy: { backoff: { delayMs: 4_000 } },
    });
    expect(policies.request()).not.toHaveProperty("versionsWanted");
    labelOf(policies, "t", undefined, envelope("sms@5"));
    policies.take({ dependencies: [], versions: [{ name: "sms", version: 5, policy: null }] });
    expect(labelOf(policies, "t", undefined, envelope("sms@5"))).toBe("sms@9");
    expect(policies.request()).not.toHaveProperty("versionsWanted");
  });

  it("deleted while in use: the last one known holds, and that is told once", () => {
    const { policies, warnings } = known({ kind: "named", name: "sms" });
    policies.take(bound("1", { name: "sms", version: 1, policy: every("1s") }));
    policies.take(bound("2"));
    policies.take(bound("3"));
    expect(labelOf(policies)).toBe("sms@1");
    expect(warnings).toHaveLength(1);
  });

  it("one that cannot be read here is replaced by the version before, or by none", () => {
    const { policies, warnings } = known({ kind: "bound" });
    policies.take(bound("1", { name: "sms", version: 1, policy: every("1s") }));
    policies.take(bound("2", { name: "sms", version: 2, policy: { backoff: { kind: "cubic" } } as never }));
    expect(policies.of("t", undefined, fresh)).toMatchObject({ policy: { backoff: { delayMs: 1_000 } } });
    policies.take(bound("3", { name: "other", version: 1, policy: { backoff: { kind: "cubic" } } as never }));
    expect(labelOf(policies)).toBe("default@0");
    expect(warnings.length).toBeGreaterThan(0);
  });

  it("given in the program they are nobody else's business", () => {
    const { policies } = known({
      kind: "inline",
      name: "inline",
      policy: {
        backoff: { kind: "fixed", delayMs: durationMs(1), jitter: "none" },
        limits: { maxAttempts: 1, maxCrashes: 1 },
        rules: [],
      },
    });
    policies.take(bound("1", { name: "sms", version: 1, policy: {} }));
    expect(labelOf(policies)).toBe("inline@0");
    expect(policies.request()).toEqual({});
  });
});
