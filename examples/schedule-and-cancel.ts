/**
 * Schedules, looks, reschedules and cancels by a key of your own. Needs a running server (`npm start`). Prints:
 *   scheduled    scheduled
 *   same key     kept the first message
 *   rescheduled  scheduled
 *   paid         canceled
 *   afterwards   canceled
 */
import { EscapementClient } from "../src/sdk/client.ts"; // "escapement" in your own project

const escapement = new EscapementClient({ url: process.env.ESCAPEMENT_URL ?? "http://127.0.0.1:7361" });

// An order that is not paid within 30 minutes times out. The order's number is the key: no id to remember.
const key = `order-${process.pid}-timeout`;
const order = { topic: "demo", key, tag: "timeout", body: JSON.stringify({ order: process.pid }) };

const scheduled = await escapement.schedule({ ...order, delay: "30m" });
console.log(`scheduled    ${scheduled.state}`);

const again = await escapement.schedule({ ...order, delay: "30m" });
console.log(`same key     ${again.deduplicated ? "kept the first message" : "made a second one"}`);

const later = await escapement.reschedule({ key }, { delay: "45m" });
console.log(`rescheduled  ${later.state}`);

const canceled = await escapement.cancel({ key });
console.log(`paid         ${canceled.state}`);

const known = await escapement.get({ key });
console.log(`afterwards   ${known.state}`);
escapement.close();
