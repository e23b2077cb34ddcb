import { describe, expect, it } from "vitest";
import { Allowance } from "./allowance.ts";

describe("an allowance", () => {
  it("is a fifth of a second's at the beginning, never more, and comes back evenly", () => {
    const allowance = new Allowance(1_000);
    expect(allowance.at(5_000)).toBe(200);
    allowance.spend(200);
    expect([allowance.isSpent, allowance.at(5_000), allowance.at(5_050)]).toEqual([true, 0, 50]);
    expect(allowance.at(60_000)).toBe(200);
  });

  it("that was overdrawn is paid back first", () => {
    const allowance = new Allowance(1_000);
    allowance.at(0);
    allowance.spend(300);
    expect([allowance.at(0), allowance.at(100), allowance.at(150)]).toEqual([0, 0, 50]);
  });

  it("lets one go now and then at the smallest rate", () => {
    const allowance = new Allowance(1);
    expect(allowance.at(0)).toBe(1);
    allowance.spend(1);
    expect([allowance.at(999), allowance.at(1_000)]).toEqual([0, 1]);
  });
});
