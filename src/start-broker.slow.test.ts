import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import requests from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_pb.js";
import { afterAll, expect, it } from "vitest";
import { createSession, type Session, timedOut } from "./adapters/rocketmq/session.ts";
import { eventually, parts } from "./adapters/rocketmq/testing.ts";
import { machineClock } from "./adapters/system/system-time.ts";
import {
  aMessage,
  bytes,
  duration,
  instant,
  receiveRequest,
  sendRequest,
  statusOf,
} from "./broker/rpc/testing/requests.ts";
import { code, method } from "./protocol/messaging-service.ts";
import { type RunningBroker, startBroker } from "./start-broker.ts";

/** The whole embedded broker: how it ends. */
const folder = mkdtempSync(join(tmpdir(), "escapement-start-broker-"));
afterAll(() => rmSync(folder, { recursive: true }));

const sendTo = async ({ endpoint }: RunningBroker, topic: string): Promise<number> => {
  const session = createSession({ endpoint, ...parts });
  const request = sendRequest(aMessage(topic));
  const reply = await session.unary({ method: method.sendMessage, request, timeoutMs: 2_000, decode: statusOf });
  session.close();
  if (!reply.ok) throw new Error(reply.failure.detail);
  return reply.value;
};

it("a stop answers those who wait for messages, at once", async () => {
  const broker = await startBroker();
  const session = createSession({ endpoint: broker.endpoint, ...parts });
  const heard: number[] = [];
  const poll = session.serverStream({
    method: method.receiveMessage,
    request: bytes(receiveRequest("t").setInvisibleDuration(duration(30)).setLongPollingTimeout(duration(10))),
    timeoutMs: 15_000,
    signal: new AbortController().signal,
    onData: (message) => heard.push(statusOf(message)),
  });
  await sendTo(broker, "other");
  const from = performance.now();
  await broker.stop();
  expect(await poll).toBeUndefined();
  expect(heard).toEqual([code.messageNotFound]);
  // Well below the time after which connections are cut.
  expect(performance.now() - from).toBeLessThan(400);
  session.close();
});

it("a stop ends everything, also when one part of it cannot end well", async () => {
  const broker = await startBroker({ folder });
  // No catalog can be written any more.
  mkdirSync(join(folder, "catalog.json.new"), { recursive: true });
  expect(await sendTo(broker, "made-by-use")).toBe(code.ok);
  await broker.stop();
  rmSync(join(folder, "catalog.json.new"), { recursive: true });
  // All files are given back, and what was acknowledged is there.
  await using again = await startBroker({ folder });
  expect(await sendTo(again, "made-by-use")).toBe(code.ok);
});

it("a stop in the middle of everything loses nothing that was acknowledged, and leaves nobody waiting", async () => {
  const at = join(folder, "busy");
  const broker = await startBroker({ folder: at });
  const doors = [
    createSession({ endpoint: broker.endpoint, ...parts }),
    createSession({ endpoint: broker.endpoint, local: broker.messaging, ...parts }),
  ];
  const acknowledged = new Set<string>();
  let sent = 0;
  let left = 0;
  const produce = async (session: Session, type: 1 | 3 | 4): Promise<void> => {
    for (;;) {
      const body = `${sent++}`;
      const message = aMessage("t", body);
      const system = message.getSystemProperties()!.setMessageType(type as never);
      if (type === 3) system.setDeliveryTimestamp(instant(Math.floor(machineClock.wallMs() / 1000) + (sent % 3), 0));
      const request = sendRequest(message);
      const reply = await session.unary({ method: method.sendMessage, request, timeoutMs: 5_000, decode: statusOf });
      if (!reply.ok && reply.failure.code === timedOut) left++;
      if (!reply.ok || reply.value !== code.ok) return;
      if (type !== 4) acknowledged.add(body);
    }
  };
  const producing = doors.flatMap((door) => ([1, 1, 3, 4] as const).map((type) => produce(door, type)));
  await eventually("much is under way", 10_000, () => acknowledged.size > 200);
  await broker.stop();
  await Promise.all(producing);
  for (const door of doors) door.close();
  expect(left).toBe(0);

  await using again = await startBroker({ folder: at });
  const seen = new Set<string>();
  const caller = { clientId: "c", remoteHost: "here", authority: undefined, local: { host: "", port: 1 } };
  const poll = bytes(receiveRequest("t").setInvisibleDuration(duration(60)).setLongPollingTimeout(duration(1)));
  for (let round = 0; round < 500 && missing(acknowledged, seen).length > 0; round++) {
    await again.messaging.receive(poll, { ...caller, leftMs: 3_000 }, new AbortController().signal, (reply) => {
      const message = requests.ReceiveMessageResponse.deserializeBinary(reply).getMessage();
      if (message !== undefined) seen.add(Buffer.from(message.getBody_asU8()).toString());
    });
  }
  expect(missing(acknowledged, seen)).toEqual([]);
});

const missing = (wanted: ReadonlySet<string>, seen: ReadonlySet<string>) => [...wanted].filter((one) => !seen.has(one));
