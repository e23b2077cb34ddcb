import { connect } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { decodeRemoting, encodeRemoting } from "../../../src/protocol/remoting-frame.ts";
import type { MessageDetails } from "../../../src/wire/http.ts";
import type { CallResult } from "../http-caller.ts";
import { eventually, type Lab } from "../lab.ts";
import type { Recipe } from "../recipe.ts";

const deleteTopicInBroker = 215;
const deleteTopicInNameServer = 216;

/** The service itself never deletes a topic, so its own admin cannot either. */
const ask = (address: string, code: number, fields: Record<string, string>): Promise<void> =>
  new Promise((done, failed) => {
    const [host, port] = address.split(":");
    const socket = connect(Number(port), host);
    let received = Buffer.alloc(0);
    socket.setTimeout(5_000, () => socket.destroy(new Error("no answer")));
    socket.on("error", failed);
    socket.on("data", (part) => {
      received = Buffer.concat([received, part]);
      const reply = decodeRemoting(received);
      if (reply === undefined) return;
      socket.destroy();
      if (reply.code === 0) done();
      else failed(new Error(`${address} refused request ${code}: ${reply.remark}`));
    });
    socket.write(encodeRemoting({ code, fields }, 1));
  });

const deleteTopic = async ({ rocketmq }: Lab, topic: string): Promise<void> => {
  await ask(rocketmq.broker, deleteTopicInBroker, { topic });
  await ask(rocketmq.nameserver, deleteTopicInNameServer, { topic });
};

const codeOf = (result: CallResult): string =>
  result.end !== "answer" ? result.end : result.status < 300 ? "accepted" : (result.body as { code: string }).code;

export const r31: Recipe = {
  name: "R31",
  title: "target topics are missing or vanish, messages are at and above the limits",
  expects:
    "refused at accept with its code; a vanished topic keeps its messages and delays no other topic; nothing dead",
  async run(lab) {
    const failures: string[] = [];
    const server = await lab.server("a", { INGEST_TOPIC: "" });
    const { normal } = lab.topics;
    const post = (body: object) => lab.http.call(server.port, "POST", "/v1/messages", body);
    const expectCode = async (what: string, body: object, code: string): Promise<void> => {
      const got = codeOf(await post(body));
      if (got !== code) failures.push(`${what}: answered ${got}, expected ${code}`);
    };
    const base = { topic: normal, body: "x", delay: "1h" };
    await expectCode("a topic that never was", { ...base, topic: "never_was_there" }, "topic_not_found");
    const bytes = (count: number) => Buffer.alloc(count, 7).toString("base64");
    await expectCode(
      "a body of 4,000,001 bytes",
      { topic: normal, delay: "1h", bodyBase64: bytes(4_000_001) },
      "body_too_large",
    );
    await expectCode("an empty body", { ...base, body: "" }, "empty_body");
    const many = Object.fromEntries(Array.from({ length: 129 }, (_, i) => [`p${i}`, "v"]));
    await expectCode("129 properties", { ...base, properties: many }, "too_many_properties");
    await expectCode(
      "properties above 16 KiB",
      { ...base, properties: { p: "v".repeat(16_500) } },
      "properties_too_large",
    );
    await expectCode("a grouped message to a plain topic", { ...base, messageGroup: "g" }, "topic_type_mismatch");
    const stored = (await server.stats())!.waiting.total;
    if (stored !== 0) failures.push(`${stored} messages were stored by requests that were refused`);

    const stateOf = async (id: string): Promise<string> => {
      const result = await lab.http.call(server.port, "GET", `/v1/messages/${id}`);
      return result.end === "answer" ? ((result.body as Partial<MessageDetails>).state ?? "gone") : result.end;
    };
    const acceptMany = async (topic: string, count: number, delayMs: number, more: object = {}): Promise<string[]> => {
      const answers = await Promise.all(
        Array.from({ length: count }, (_, i) =>
          post({ topic, body: `m${i}`, delay: delayMs, properties: { LAB_IGNORED: "1" }, ...more }),
        ),
      );
      const bad = answers.find((answer) => codeOf(answer) !== "accepted");
      if (bad !== undefined) throw new Error(`not accepted: ${JSON.stringify(bad)}`);
      return answers.map((answer) => (answer as { body: { id: string } }).body.id);
    };
    const allDelivered = async (ids: readonly string[], withinMs: number): Promise<boolean> =>
      eventually(withinMs, async () => (await Promise.all(ids.map(stateOf))).every((state) => state === "delivered"));

    // At the limit: what was accepted must also be taken by the broker.
    const largest = await post({ topic: normal, delay: 500, bodyBase64: bytes(4_000_000) });
    if (codeOf(largest) !== "accepted") failures.push(`a body of 4,000,000 bytes: answered ${codeOf(largest)}`);
    else if (!(await allDelivered([(largest as { body: { id: string } }).body.id], 15_000)))
      failures.push("a body of 4,000,000 bytes was not delivered");

    const vanishing = `${normal}_gone`;
    const awaited = `${normal}_later`;
    await lab.admin.createTopic({ name: vanishing, queues: 2 });
    const doomed = await acceptMany(vanishing, 40, 2_500);
    const patient = await acceptMany(awaited, 40, 1_500, { waitForTopic: true });
    await deleteTopic(lab, vanishing);
    lab.faultBegins(`topic ${vanishing} is deleted, topic ${awaited} does not exist yet`);
    await pause(2_500);
    // While two topics refuse, the third one must not notice.
    const others = await acceptMany(normal, 200, 1_000);
    const startedMs = performance.now();
    if (!(await allDelivered(others, 6_000))) failures.push("another topic's messages were not delivered within 6 s");
    const othersMs = Math.round(performance.now() - startedMs);
    const early = await Promise.all([...doomed, ...patient].map(stateOf));
    const wrong = early.find((state) => state !== "scheduled" && state !== "claimed");
    if (wrong !== undefined) failures.push(`a message for a topic that is not there is ${wrong}, scheduled expected`);
    await lab.admin.createTopic({ name: vanishing, queues: 2 });
    await lab.admin.createTopic({ name: awaited, queues: 2 });
    lab.faultEnds("both topics exist");
    const healedMs = performance.now();
    if (!(await allDelivered([...doomed, ...patient], 60_000))) {
      const states = await Promise.all([...doomed, ...patient].map(stateOf));
      failures.push(`60 s after the topics came back: ${JSON.stringify(Object.groupBy(states, (state) => state))}`);
    }
    const recoveredMs = Math.round(performance.now() - healedMs);
    const { dead } = (await server.stats())!;
    if (dead !== 0) failures.push(`${dead} messages are dead, 0 expected`);
    return { failures, notes: { othersDeliveredMs: othersMs, recoveredMs } };
  },
};
