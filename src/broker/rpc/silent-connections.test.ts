import { once } from "node:events";
import { connect } from "node:net";
import { afterEach, beforeEach, expect, it } from "vitest";
import { SimulatedTime } from "../delivery/testing/simulated-time.ts";
import { startTestServer } from "./testing/start.ts";

/** Connections that say nothing, or nothing more. Time is simulated, the sockets are real. */
let time: SimulatedTime;
let server: Awaited<ReturnType<typeof startTestServer>>;
beforeEach(async () => {
  time = new SimulatedTime();
  server = await startTestServer(time);
});
afterEach(async () => {
  const stopped = server.stop();
  await time.pass(1_000);
  await stopped;
});

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const settingsFrame = Buffer.from("000000040000000000", "hex");
const pingAnswerFor = (frame: Buffer): Buffer => {
  const answer = Buffer.from(frame);
  answer[4] = 1; // ACK
  return answer;
};
const isPing = (part: Buffer): boolean => part.length === 17 && part[3] === 6 && part[4] === 0;

/** What is sent first, and what is answered to a ping; how long the server bears it. */
const borneMs = async (begin: Buffer, answersPings: boolean): Promise<number> => {
  const socket = connect(server.server.address.port, "127.0.0.1");
  socket.on("error", () => {});
  let closed = false;
  socket.once("close", () => {
    closed = true;
  });
  const heard = begin.length > preface.length ? once(socket, "data") : undefined;
  await once(socket, "connect");
  socket.write(begin);
  await heard;
  socket.on("data", (part: Buffer) => {
    if (answersPings && isPing(part)) socket.write(pingAnswerFor(part));
  });
  let passedMs = 0;
  while (!closed && passedMs < 100_000) {
    await time.pass(2_500);
    await new Promise((resolve) => setTimeout(resolve, 2)); // for the sockets, whose time is real
    passedMs += 2_500;
  }
  socket.destroy();
  return passedMs;
};

const about = (ms: number) => [ms - 2_500, ms + 7_500] as const;

it.each([
  ["a connection that says nothing", Buffer.alloc(0), false, about(10_000)],
  ["a preface without settings", preface, false, about(10_000)],
  ["a client that has gone without a word", Buffer.concat([preface, settingsFrame]), false, about(45_000)],
  ["half a question of an administrator", Buffer.from([0, 0, 0, 99]), false, about(60_000)],
  ["a client that is there", Buffer.concat([preface, settingsFrame]), true, [100_000, 100_000] as const],
])("%s is borne for its time", async (_, begin, answersPings, [fromMs, toMs]) => {
  const foundMs = await borneMs(begin, answersPings);
  expect(foundMs).toBeGreaterThanOrEqual(fromMs);
  expect(foundMs).toBeLessThanOrEqual(toMs);
});
