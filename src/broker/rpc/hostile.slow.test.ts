import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createSession, type Session } from "../../adapters/rocketmq/session.ts";
import { eventually, parts } from "../../adapters/rocketmq/testing.ts";
import { code, method } from "../../protocol/messaging-service.ts";
import { encodeRemoting } from "../../protocol/remoting-frame.ts";
import { aMessage, bytes, duration, receiveRequest, sendRequest, statusOf } from "./testing/requests.ts";
import { startTestServer } from "./testing/start.ts";

/** Many, and of ill will, in real time. */
let server: Awaited<ReturnType<typeof startTestServer>>;
let wellMeaning: Session;
beforeAll(async () => {
  server = await startTestServer();
  wellMeaning = createSession({ endpoint: server.endpoint, ...parts });
});
afterAll(async () => {
  wellMeaning.close();
  await server.stop();
});

const port = () => server.server.address.port;

const sendWorks = async (): Promise<void> => {
  const request = sendRequest(aMessage("elsewhere"));
  const reply = await wellMeaning.unary({ method: method.sendMessage, request, timeoutMs: 2_000, decode: statusOf });
  expect(reply).toEqual({ ok: true, value: code.ok });
};

/** Repeatable: the same on every run. */
const random = (seed: number) => {
  let state = seed;
  return (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
};

const pollFrame = (topic: string): Buffer => {
  const message = bytes(receiveRequest(topic).setInvisibleDuration(duration(10)));
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
};

/** What stands before it is a byte and its length; the message and the time come after it. */
const firstFrame = (stream: Buffer): Buffer => stream.subarray(5, 5 + stream.readUInt32BE(1));

it("1,000 idle long polls cost little, wake when something comes, and hold nobody up", async () => {
  const before = process.memoryUsage().rss;
  const frame = pollFrame("idle");
  const ended: number[] = [];
  const clients = Array.from({ length: 20 }, () => connectHttp2(`http://127.0.0.1:${port()}`));
  for (const [i, client] of clients.entries()) {
    client.on("error", () => {});
    client.setMaxListeners(0);
    for (let poll = 0; poll < 50; poll++) {
      const stream = client.request({
        ":method": "POST",
        ":path": method.receiveMessage,
        "content-type": "application/grpc",
        "x-mq-client-id": `idle-${i}-${poll}`,
        "grpc-timeout": "30S",
      });
      const received: Buffer[] = [];
      stream.on("data", (part: Buffer) => received.push(part));
      stream.on("error", () => {});
      stream.on("end", () => {
        if (received.length > 0) ended.push(statusOf(firstFrame(Buffer.concat(received))));
      });
      stream.end(frame);
    }
  }
  await eventually("1,000 polls wait", 10_000, () => server.broker.waiting() === 1_000);
  await sendWorks();
  const usedMiB = (process.memoryUsage().rss - before) / 2 ** 20;
  expect(usedMiB).toBeLessThan(150); // both ends are in this process
  const one = sendRequest(aMessage("idle"));
  await wellMeaning.unary({ method: method.sendMessage, request: one, timeoutMs: 2_000, decode: statusOf });
  await eventually("one poll has the message", 2_000, () => ended.length === 1);
  expect(server.broker.waiting()).toBe(999);
  expect(ended).toEqual([code.ok]);
  for (const client of clients) client.destroy();
  await eventually("none waits", 5_000, () => server.broker.waiting() === 0);
});

it("whatever bytes come in, others are served and nothing stays behind", async () => {
  const chance = random(20_261_121);
  const noise = (length: number) => Buffer.from(Array.from({ length }, () => Math.floor(chance() * 256)));
  const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  const settings = Buffer.from("000000040000000000", "hex");
  const beginnings = [
    () => Buffer.alloc(0),
    () => preface,
    () => Buffer.concat([preface, settings]),
    () => Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]),
    () => Buffer.from([0, 0, 0, Math.floor(chance() * 200), 0, 0, 0, Math.floor(chance() * 100)]),
    // A header frame of random content on a stream that may be.
    () => Buffer.concat([preface, settings, Buffer.from("000020010500000001", "hex")]),
  ];
  for (let round = 0; round < 300; round++) {
    const begin = beginnings[round % beginnings.length]!();
    const socket = connect(port(), "127.0.0.1");
    socket.on("error", () => {});
    socket.write(Buffer.concat([begin, noise(Math.floor(chance() * 200))]), () => {
      if (chance() < 0.5) socket.resetAndDestroy();
      else setTimeout(() => socket.destroy(), chance() * 20);
    });
    if (round % 50 === 0) await sendWorks();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await sendWorks();
  await eventually("only the well-meaning one is connected", 5_000, () => server.server.connections <= 1);
});

it("a TLS handshake that does not go on is ended", async () => {
  const socket = connect(port(), "127.0.0.1", () => socket.write(Buffer.from([0x16, 0x03, 0x01])));
  socket.on("error", () => {});
  let closed = false;
  socket.on("close", () => {
    closed = true;
  });
  await eventually("it is closed", 15_000, () => closed);
});

it("many large requests that never end are refused before they fill the memory", async () => {
  const client = connectHttp2(`http://127.0.0.1:${port()}`, { maxSessionMemory: 1_000 });
  client.on("error", () => {});
  client.setMaxListeners(0);
  const statuses: string[] = [];
  const part = Buffer.alloc(7 * 1024 * 1024);
  part.writeUInt32BE(8 * 1024 * 1024, 1);
  for (let i = 0; i < 42; i++) {
    const stream = client.request({
      ":method": "POST",
      ":path": method.sendMessage,
      "content-type": "application/grpc",
      "x-mq-client-id": "greedy",
    });
    stream.on("error", () => {});
    stream.resume();
    stream.on("response", (headers) => statuses.push(String(headers["grpc-status"])));
    stream.write(part);
  }
  await eventually("some are refused", 20_000, () => statuses.length > 2);
  expect(new Set(statuses)).toEqual(new Set(["8"]));
  client.destroy();
  await eventually("the next one is taken", 5_000, () => server.server.connections <= 1);
  await sendWorks();
});

it("an administrator who asks and asks and never reads is cut off", async () => {
  for (let i = 0; i < 500; i++) await server.broker.createTopic({ name: `topic-${i}`, type: "NORMAL", queues: 4 });
  const allTopics = encodeRemoting({ code: 21 }, 1);
  const others = server.server.connections;
  const before = process.memoryUsage().rss;
  const socket = connect(port(), "127.0.0.1");
  socket.on("error", () => {});
  socket.pause();
  await eventually("it is connected", 2_000, () => server.server.connections > others);
  socket.write(Buffer.concat(Array.from({ length: 5_000 }, () => allTopics)));
  await eventually("it is cut off", 10_000, () => server.server.connections === others);
  expect(process.memoryUsage().rss - before).toBeLessThan(150 * 1024 * 1024);
  socket.destroy();
  await sendWorks();
});
