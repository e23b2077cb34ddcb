import { consumeAll } from "../../test/rocketmq-consumer.ts";
import { Samples } from "./samples.ts";

/**
 * An ordinary consumer in a process of its own: the official client. It notes when each message came, counted from the
 * time in the property it is told, and how many came more than once.
 */
const [endpoint, topic, group, dueProperty, idProperty] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
];
const lateness = new Samples();
const seen = new Map<string, number>();
let duplicates = 0;
let lastAtMs = 0;

const consuming = await consumeAll({
  endpoint,
  topic,
  group,
  pollers: 4,
  onMessage: (message) => {
    const nowMs = Date.now();
    const id = message.properties.get(idProperty) ?? message.messageId;
    lastAtMs = nowMs;
    if (seen.has(id)) {
      duplicates++;
      return;
    }
    seen.set(id, nowMs);
    lateness.push(nowMs - Number(message.properties.get(dueProperty)));
  },
});

process.on("message", async (question) => {
  if (question === "summary") process.send!({ ...lateness.summary(), duplicates, lastAtMs });
  if (question === "arrivals") process.send!([...seen]);
  if (question === "clear") {
    lateness.clear();
    process.send!("cleared");
  }
  if (question === "stop") {
    await consuming.stop();
    process.exit(0);
  }
});
process.send!("ready");
