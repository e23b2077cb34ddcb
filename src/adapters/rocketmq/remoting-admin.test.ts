import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { expect, it } from "vitest";
import { decodeRemotingRequest, encodeRemotingReply } from "../../protocol/remoting-frame.ts";
import { systemTimers } from "../system/system-time.ts";
import { createRemotingAdmin, type RemotingAdmin } from "./remoting-admin.ts";

/** Answers of real brokers that the embedded one never gives: their text as it is on the wire, by request code. */
const withAnswers = async (answers: Readonly<Record<number, string>>, act: (admin: RemotingAdmin) => Promise<void>) => {
  const asked: number[] = [];
  const server = createServer((socket) => {
    socket.on("data", (part: Buffer) => {
      const { code, opaque } = decodeRemotingRequest(part)!.request;
      asked.push(code);
      const text = answers[code];
      socket.write(encodeRemotingReply(text === undefined ? 3 : 0, opaque, "", Buffer.from(text ?? "")));
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const broker = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  await act(createRemotingAdmin({ broker, timers: systemTimers }));
  server.close();
  return asked;
};

it("leaves out what the broker calls its own, and reads numbers as keys, which JSON does not allow", async () => {
  const topics = `{"topicConfigTable":{"orders":{"attributes":{"message.type":"FIFO"},"writeQueueNums":2},
    "%RETRY%readers":{"writeQueueNums":1},"TBW102":{"writeQueueNums":8},"a\\"{1:":{"writeQueueNums":3}},
    "topicQueueMappingDetailMap":{"orders":{"currIdMap":{0:0, 1:-1},"hostedQueues":{0:[{"gen":0}]}}}}`;
  await withAnswers({ 21: topics, 305: '{"topicList":["TBW102"]}' }, async (admin) => {
    const orders = { name: "orders", type: "FIFO", queues: 2 };
    const quoted = { name: 'a"{1:', type: "NORMAL", queues: 3 };
    expect(await admin.topics()).toEqual([orders, quoted]);
    expect((await admin.topics({ all: true })).map(({ name }) => name)).toEqual([
      "orders",
      "%RETRY%readers",
      "TBW102",
      'a"{1:',
    ]);
  });
});

it("never deletes a group that RocketMQ itself reads with", async () => {
  const asked = await withAnswers({ 207: "" }, async (admin) => {
    await expect(admin.deleteGroup("CID_RMQ_SYS_TRANS")).rejects.toThrow("one of RocketMQ's own");
    await admin.deleteGroup("billing");
  });
  expect(asked).toEqual([207]);
});
