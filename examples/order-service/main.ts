/**
 * Orders that time out unless they are paid, in a service that keeps its rows and its messages together. Needs a
 * database (`npm run services -- start mysql`, or MYSQL_URL with the right to CREATE DATABASE: it makes its own,
 * order_service_example, anew each time) and a running server (`npm start`):
 *
 *   node examples/order-service/main.ts [--chaos] [--seconds 30] [--pay-within 10]
 *
 * Takes orders for so many seconds; half of the customers pay. In a real shop `--pay-within` would be 1800, half an hour.
 * With `--chaos` the service is killed (-9) every few seconds, wherever it is, and started again. At the end the books
 * are balanced: exit code 1 when they do not.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { createPool } from "mysql2/promise";
import { statusServices } from "../../scripts/services.mjs";
import { migrate } from "../../src/tx-producer.ts"; // "escapement/tx" in your own project
import { balance } from "./balance.ts";

const { values } = parseArgs({
  options: {
    chaos: { type: "boolean", default: false },
    seconds: { type: "string", default: "30" },
    "pay-within": { type: "string", default: "10" },
  },
});
const [seconds, payWithin] = [Number(values.seconds), Number(values["pay-within"])];
/** After the last order can time out: what a killed consumer had in its hands comes again after 10 s. */
const settleSeconds = 60;

const server = process.env.MYSQL_URL ?? ourMysql();
const database = "order_service_example";
const admin = createPool(server);
await admin.query(`DROP DATABASE IF EXISTS ${database}`);
await admin.query(`CREATE DATABASE ${database} CHARACTER SET utf8mb4`);
await admin.end();
const uri = Object.assign(new URL(server), { pathname: `/${database}` }).href;
await migrate(uri); // "escapement outbox migrate"
const db = createPool(uri);
await db.query(
  "CREATE TABLE orders (id VARCHAR(60) PRIMARY KEY, state VARCHAR(10) DEFAULT 'open', pays_at DATETIME(3))",
);
await db.query("CREATE TABLE ledger (n BIGINT AUTO_INCREMENT PRIMARY KEY, order_id VARCHAR(60), entry VARCHAR(30))");

const env = {
  ...process.env,
  MYSQL_URL: uri,
  RUN: `r${Date.now().toString(36)}`,
  PAY_WITHIN_MS: String(payWithin * 1_000),
};
let isOpen = true;
let kills = 0;
let service: ChildProcess; // ends by itself when this process does
let ready: Promise<unknown>;
const start = (): void => {
  service = fork(fileURLToPath(new URL("service.ts", import.meta.url)), { env });
  service.once("exit", start);
  ready = once(service, "message").then(() => service.send(isOpen ? "open" : "closed"));
};
start();
await ready!;

const closesAtMs = Date.now() + seconds * 1_000;
while (Date.now() < closesAtMs) {
  await ready!;
  await pause(1_000 + Math.random() * 3_000);
  console.log(`${(await balance(db)).orders} orders, killed ${kills} times`);
  if (values.chaos && service!.kill("SIGKILL")) {
    kills++;
    await once(service!, "exit");
  }
}
isOpen = false;
await ready!;
service!.send("closed");
let books = await balance(db);
const endMs = Date.now() + (payWithin + settleSeconds) * 1_000;
while (!books.isBalanced && Date.now() < endMs) {
  await pause(500);
  books = await balance(db);
}
// What came twice would come now, too.
await pause(2_000);
books = await balance(db);
service!.off("exit", start).kill("SIGKILL");
await db.end();
console.log(
  `\nkilled ${kills} times\n${books.table}\n${books.isBalanced ? "the books balance" : "THE BOOKS DO NOT BALANCE"}`,
);
process.exit(books.isBalanced && books.orders > 0 ? 0 : 1);

function ourMysql(): string {
  const running = statusServices({ names: ["mysql"] }).find(({ condition }) => condition === "running");
  if (running !== undefined) return `mysql://root@127.0.0.1:${running.ports.port}/escapement`;
  console.error("no database: npm run services -- start mysql, or give MYSQL_URL");
  process.exit(1);
}
