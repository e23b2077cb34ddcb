import { describe, expect, it } from "vitest";
import { timing } from "./behaviour.ts";
import { differences, type KnownDifference, needless } from "./compare.ts";
import type { Result } from "./run-behaviours.ts";

const real = (over: Partial<Result> = {}): Result => ({ target: "real", client: "java", behaviour: "b", ...over });
const embedded = (over: Partial<Result> = {}): Result => ({ ...real(over), target: "embedded" });
const known = (over: Partial<KnownDifference> = {}): KnownDifference => ({
  behaviour: "b",
  fact: "code",
  target: "embedded",
  clients: "all",
  saw: "error 2",
  why: "because",
  ...over,
});
const two = [real({ facts: { code: "error 1" } }), embedded({ facts: { code: "error 2" } })];

describe("the comparison of the two brokers", () => {
  it("finds nothing when both show the same, whatever the times within their bounds", () => {
    const facts = (ms: number) => ({ code: "ok", late: timing(ms, { to: 100 }), count: 3, gone: true });
    expect(differences([real({ facts: facts(1) }), embedded({ facts: facts(99) })], [])).toEqual([]);
  });

  it("finds a fact that differs, is missing or is new, for the client that saw it", () => {
    expect(differences(two, [])).toMatchObject([{ fact: "code", saw: "error 2", instead: "error 1", client: "java" }]);
    expect(differences([real({ facts: { a: 1 } }), embedded({ facts: { b: 1 } })], [])).toMatchObject([
      { fact: "a", saw: "nothing", instead: "1" },
      { fact: "b", saw: "1", instead: "nothing" },
    ]);
  });

  it("does not compare one client with another", () => {
    expect(differences([two[0]!, { ...two[1]!, client: "go" }], [])).toEqual([]);
  });

  it("finds a failure and a time out of bounds on either broker, also when both fail the same way", () => {
    const failed = { failure: "broken: nothing is lost" };
    expect(differences([real(failed), embedded(failed)], [])).toHaveLength(2);
    const late = { facts: { late: timing(101, { to: 100 }) } };
    expect(differences([real(late), embedded(late)], [])).toHaveLength(2);
  });

  it("takes a reason only for exactly what it was given for", () => {
    expect(differences(two, [known()])[0]?.known?.why).toBe("because");
    for (const other of [
      known({ saw: "error 3" }),
      known({ clients: ["go"] }),
      known({ behaviour: "c" }),
      known({ fact: "other" }),
      known({ target: "real" }),
    ]) {
      expect(differences(two, [other])[0]?.known).toBeUndefined();
    }
  });

  it("names reasons that nothing needs any more, if both brokers were run and it is not a matter of chance", () => {
    const same: Result[] = [two[0]!, { ...two[0]!, target: "embedded" }];
    const reason = known();
    expect(needless(same, differences(same, [reason]), [reason])).toEqual([reason]);
    expect(needless(two, differences(two, [reason]), [reason])).toEqual([]);
    expect(needless([two[0]!], [], [reason])).toEqual([]);
    expect(needless(same, [], [known({ sometimes: true })])).toEqual([]);
  });
});
