import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { services } from "../../../test/services.ts";
import { createRemotingAdmin, type RemotingAdmin, RemotingError } from "./remoting-admin.ts";
import { createRocketmqTopicDirectory, type RocketmqTopicDirectory } from "./rocketmq-topic-directory.ts";
import { parts, uniqueName } from "./testing.ts";

let admin: RemotingAdmin;
let directory: RocketmqTopicDirectory;

beforeAll(async () => {
  const { rocketmq } = await services();
  admin = createRemotingAdmin({ broker: rocketmq.broker, timers: parts.timers });
  directory = createRocketmqTopicDirectory({ endpoint: rocketmq.endpoint, ...parts });
});
afterAll(() => directory?.close());

describe("topics created at a real broker", () => {
  it.each(["NORMAL", "FIFO", "DELAY", "TRANSACTION"] as const)("of type %s are found with their type", async (type) => {
    const name = uniqueName("topic");
    expect(await admin.topicExists(name)).toBe(false);
    await admin.createTopic({ name, type, queues: 3 });
    expect(await admin.topic(name)).toEqual({ name, type, queues: 3 });
    expect(await directory.lookUp(name)).toEqual({ outcome: "exists", types: [type] });
  });

  it("may be created again with other queues, and never with another type", async () => {
    const name = uniqueName("topic");
    await admin.createTopic({ name, type: "FIFO", queues: 2 });
    await admin.createTopic({ name, type: "FIFO", queues: 5 });
    expect(await admin.topic(name)).toEqual({ name, type: "FIFO", queues: 5 });
    await expect(admin.createTopic({ name, type: "NORMAL" })).rejects.toThrow(/exists with type FIFO/);
  });

  it("of type MIXED are refused by a broker that was not told to allow them", async () => {
    await expect(admin.createTopic({ name: uniqueName("topic"), type: "MIXED" })).rejects.toThrow(RemotingError);
  });

  it("must have legal names and a sane number of queues", async () => {
    await expect(admin.createTopic({ name: "two words" })).rejects.toThrow(/not a topic name/);
    await expect(admin.createTopic({ name: "t", queues: 0 })).rejects.toThrow(/queues/);
  });
});

describe("topics that do not exist at a real broker", () => {
  it("are missing", async () => {
    expect(await directory.lookUp(uniqueName("missing"))).toEqual({ outcome: "missing" });
  });

  it("are missing without a question when no broker could have them", async () => {
    expect(await directory.lookUp("two words")).toEqual({ outcome: "missing" });
  });
});

describe("consumer groups at a real broker", () => {
  it("are created with many redeliveries, and a second time only what is asked changes", async () => {
    const name = uniqueName("group");
    await admin.createGroup({ name });
    expect(await admin.group(name)).toEqual({ name, retryMaxTimes: 10_000, orderly: false });
    await admin.createGroup({ name, retryMaxTimes: 77 });
    expect(await admin.group(name)).toEqual({ name, retryMaxTimes: 77, orderly: false });
    await expect(admin.createGroup({ name: "two words" })).rejects.toThrow(/not a group name/);
  });
});

describe("a broker that is not there", () => {
  it("is reported in a sentence, quickly", async () => {
    const nobody = createRemotingAdmin({ broker: "127.0.0.1:1", timers: parts.timers });
    await expect(nobody.topicExists("t")).rejects.toThrow(/ECONNREFUSED/);
    await expect(createRemotingAdmin({ broker: "nonsense", timers: parts.timers }).topic("t")).rejects.toThrow(
      /host:port/,
    );
  });
});
