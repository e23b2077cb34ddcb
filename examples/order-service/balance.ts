import type { Pool, RowDataPacket } from "mysql2/promise";

/** The orders, beside what the consumers have written down of them. Each line says how many, and how many are allowed. */
export const balance = async (db: Pool) => {
  const one = async (sql: string): Promise<number> => {
    const [rows] = await db.query<RowDataPacket[]>(`SELECT COUNT(*) AS n FROM ${sql}`);
    return Number(rows[0]!.n);
  };
  const entries = (entry: string) => `(SELECT COUNT(*) FROM ledger WHERE order_id = orders.id AND entry = '${entry}')`;
  const [orders, paid, timedOut] = [
    await one("orders"),
    await one("orders WHERE state = 'paid'"),
    await one("orders WHERE state = 'timed-out'"),
  ];
  const mustBeNone = {
    "still open": await one("orders WHERE state = 'open'"),
    "created not told": await one(`orders WHERE ${entries("created")} = 0`),
    "created told twice": await one(`orders WHERE ${entries("created")} > 1`),
    "unpaid without its timeout": await one(`orders WHERE state <> 'paid' AND ${entries("timed out")} = 0`),
    "timed out twice": await one(`orders WHERE ${entries("timed out")} > 1`),
    "paid and timed out": await one(`orders WHERE state = 'paid' AND ${entries("timed out")} > 0`),
    "told of, and no order": await one("ledger WHERE order_id NOT IN (SELECT id FROM orders)"),
    "waiting in the outbox": await one("escapement_outbox"),
  };
  const lines = [
    ["orders", orders, ""],
    ["  paid", paid, ""],
    ["  timed out", timedOut, ""],
    [
      "timeouts that came though paid, and did nothing",
      await one("ledger WHERE entry = 'timeout of a paid order'"),
      "",
    ],
    ...Object.entries(mustBeNone).map(([name, n]) => [name, n, n === 0 ? "ok" : "NOT 0"] as const),
  ] as const;
  return {
    orders,
    isBalanced: Object.values(mustBeNone).every((n) => n === 0),
    table: lines
      .map(([name, n, verdict]) => `${name.padEnd(49)}${String(n).padStart(6)}  ${verdict}`.trimEnd())
      .join("\n"),
  };
};
