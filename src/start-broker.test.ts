import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { createSession } from "./adapters/rocketmq/session.ts";
import { parts } from "./adapters/rocketmq/testing.ts";
import { aMessage, bytes, duration, receiveRequest, sendRequest, statusOf } from "./broker/rpc/testing/requests.ts";
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
