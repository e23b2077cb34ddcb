import { describe, expect, it } from "vitest";
import { classifyMysqlFailure } from "./mysql-failure.ts";

const said = (errno: number) => Object.assign(new Error("server"), { errno, sqlState: "40001" });

describe("what a failure of the database means", () => {
  it.each([
    [1213, "deadlock"],
    [1020, "deadlock"],
    [1206, "deadlock"],
    [3101, "deadlock"],
    [1205, "lock-wait-timeout"],
    [1062, "duplicate"],
    [1305, "savepoint-gone"],
    [1146, "table-missing"],
    [1064, "refused"],
    [1053, "no-answer"], // The server shuts down: its COMMIT may have happened.
    [1317, "no-answer"],
    [3032, "no-answer"],
    [3168, "no-answer"],
    [3169, "no-answer"],
  ] as const)("%d: %s, bare and wrapped by a library", (errno, meaning) => {
    expect(classifyMysqlFailure(said(errno))).toBe(meaning);
    expect(classifyMysqlFailure(new Error("drizzle", { cause: said(errno) }))).toBe(meaning);
    expect(classifyMysqlFailure(Object.assign(new Error("typeorm"), { driverError: said(errno) }))).toBe(meaning);
    // The last is what Prisma 7 with its MariaDB adapter threw.
    const driverAdapterError = { name: "DriverAdapterError", cause: { originalCode: String(errno), kind: "mysql" } };
    for (const meta of [{ code: String(errno) }, { driverAdapterError }]) {
      expect(classifyMysqlFailure(Object.assign(new Error("prisma"), { code: "P2010", meta }))).toBe(meaning);
    }
  });

  it("is no answer when a socket failed, though Node numbers that, too", () => {
    expect(classifyMysqlFailure(Object.assign(new Error("reset"), { errno: -104, code: "ECONNRESET" }))).toBe(
      "no-answer",
    );
    expect(classifyMysqlFailure(new Error("Connection lost"))).toBe("no-answer");
    expect(classifyMysqlFailure(undefined)).toBe("no-answer");
  });

  it("does not go round in circles", () => {
    const circle: Error & { cause?: unknown } = new Error("a");
    circle.cause = circle;
    expect(classifyMysqlFailure(circle)).toBe("no-answer");
  });
});
