import { describe, expect, it } from "vitest";
import { versionInForce } from "./in-flight.ts";
import { parsePolicy } from "./parse-policy.ts";

describe("RT-16 a policy was changed while messages are in flight", () => {
  const bound = (input: object) => ({ name: "orders", version: 3, policy: parsePolicy(input) });

  it("they adopt the newest version unless it says otherwise", () => {
    for (const input of [{}, { inFlight: "adopt" }]) {
      expect(versionInForce(bound(input), "orders@1")).toBe("orders@3");
      expect(versionInForce(bound(input), undefined)).toBe("orders@3");
    }
  });

  it("with keep those that failed before stay with the version that decided, and fresh ones get the newest", () => {
    const keep = bound({ inFlight: "keep" });
    expect(versionInForce(keep, "orders@1")).toBe("orders@1");
    expect(versionInForce(keep, undefined)).toBe("orders@3");
  });

  it("what another policy decided goes by the one that is bound now", () => {
    const keep = bound({ inFlight: "keep" });
    expect(versionInForce(keep, "orders-eu@1")).toBe("orders@3");
    expect(versionInForce(keep, "default@0")).toBe("orders@3");
  });
});
