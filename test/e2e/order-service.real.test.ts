import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { createPool } from "mysql2/promise";
import { afterAll, beforeAll, expect, it } from "vitest";
import { services } from "../services.ts";
import { Embedded } from "./embedded.ts";

// The order service of the examples, small and killed: a real MariaDB, and the server that `npm start` is.

const root = join(import.meta.dirname, "../..");
const server = new Embedded();
beforeAll(() => server.start());
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  const db = createPool((await services()).mysql.url);
  await db.query("DROP DATABASE IF EXISTS order_service_example");
  await db.end();
});

it("the order service is killed while it runs, and its books balance", async () => {
  const { mysql } = await services();
  const env = { ...process.env, MYSQL_URL: mysql.url, ESCAPEMENT_URL: server.url, ROCKETMQ_ENDPOINT: server.endpoint };
  const args = ["examples/order-service/main.ts", "--chaos", "--seconds", "8", "--pay-within", "3"];
  // It fails when the program ends with another exit code than 0, and says what that printed.
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root, env });
  expect(stdout).toMatch(/killed [1-9]\d* times\norders +[1-9]/);
  expect(stdout).toMatch(/created not told +0 {2}ok/);
  expect(stdout).toContain("the books balance");
}, 240_000);
