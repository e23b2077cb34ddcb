import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { TxError } from "../../tx/tx-error.ts";
import { bareError } from "./bare-error.ts";
import { fromPrisma } from "./from-libraries.ts";
import { classifyMysqlFailure } from "./mysql-failure.ts";
import { openMysqlPool } from "./open-pool.ts";

const statement = "INSERT INTO escapement_outbox (body) VALUES ('secret')";

describe("an error of a statement of ours", () => {
  it("keeps what is decided by, and loses statement and values however deep they are", () => {
    const server = Object.assign(new Error(`${statement} - Deadlock found`), {
      ...{ errno: 1213, code: "ER_LOCK_DEADLOCK", sqlState: "40001", sqlMessage: "Deadlock found", sql: statement },
    });
    const wrapped = Object.assign(new Error(`Failed query: ${statement}\nparams: secret`, { cause: server }), {
      ...{ query: statement, parameters: ["secret"], params: ["secret"] },
    });
    for (const one of [server, wrapped]) {
      const bare = bareError(one);
      expect(bare).toMatchObject({ message: "Deadlock found", errno: 1213, code: "ER_LOCK_DEADLOCK" });
      expect(classifyMysqlFailure(bare)).toBe("deadlock");
      expect(inspect(bare, { depth: null, showHidden: true })).not.toContain("secret");
    }
  });

  it("stays unanswered when nobody answered", () => {
    const lost = Object.assign(new Error(`${statement} - socket closed`), { code: "ECONNRESET", errno: -104 });
    const bare = bareError(lost);
    expect(bare).toMatchObject({ code: "ECONNRESET", message: expect.stringMatching(/did not answer.*ECONNRESET/) });
    expect(classifyMysqlFailure(bare)).toBe("no-answer");
    expect(bareError(new Error("Connection is closed"))).toMatchObject({ message: "Connection is closed" });
  });

  it("keeps the server's own words, also when they name a table of ours", () => {
    const text = "Table 'shop.escapement_outbox' doesn't exist";
    const missing = Object.assign(new Error(text), {
      errno: 1146,
      sqlState: "42S02",
      sqlMessage: text,
      sql: statement,
    });
    expect(bareError(missing)).toMatchObject({ message: text, errno: 1146 });
    expect(bareError(bareError(missing))).toMatchObject({ message: text, errno: 1146 });
  });

  it("leaves errors of our own as they are", () => {
    const own = new TxError("closed", "it is");
    expect(bareError(own)).toBe(own);
  });

  // The shape of Prisma 7's error; the number is what MySQL answers to a prepared SAVEPOINT, and MariaDB from 10.6 does not.
  it("a savepoint that cannot be prepared: says which option Prisma's adapter needs", async () => {
    const driverAdapterError = { name: "DriverAdapterError", cause: { originalCode: "1295", kind: "mysql" } };
    const refuses = async () => {
      throw Object.assign(new Error("Raw query failed"), { code: "P2010", meta: { driverAdapterError } });
    };
    const tx = fromPrisma({ $executeRawUnsafe: refuses, $queryRawUnsafe: refuses });
    await expect(tx.execute("SAVEPOINT escapement_tx", [])).rejects.toMatchObject({
      code: "savepoint_refused",
      message: expect.stringContaining("useTextProtocol: true"),
    });
  });
});

describe("an address", () => {
  it.each(["mysql://app:secret@host:port/shop", "mysql://app:secret%zz@host/shop"])(
    "that is none (%s) does not come back in the error, for its password",
    (url) => {
      const opening = () => openMysqlPool(url, { connections: 1 });
      expect(opening).toThrow("no URL");
      try {
        opening();
      } catch (error) {
        expect(inspect(error, { depth: null, showHidden: true })).not.toContain("secret");
      }
    },
  );
});
