import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import requests from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_pb.js";
import { describe, expect, it } from "vitest";
import { deliveredMessage, deliveryTime, recoverTransaction } from "./delivered-message.ts";
import { readSendRequest } from "./send-request.ts";
import { aMessage, sendRequest } from "./testing/requests.ts";

const stored = (message = aMessage("orders", "hello")) => ({
  ...readSendRequest(sendRequest(message), "")[0]!,
  queueId: 0,
  queueOffset: 0,
  storedAtMs: 1_700_000_000_000,
});

const delivered = (message = stored()) =>
  requests.ReceiveMessageResponse.deserializeBinary(
    deliveredMessage({ message, handle: "H", attempt: 2 }, 30_000, "store:1"),
  ).getMessage()!;

describe("a delivered message", () => {
  it("is read by the generated classes with what was sent and what the broker adds", () => {
    const message = aMessage("orders", "hello");
    message.getUserPropertiesMap().set("colour", "grün");
    message.getSystemProperties()!.setTag("t").setKeysList(["k1", "k2"]).setTraceContext("trace");
    const read = delivered(stored(message));
    expect(read.getTopic()!.getName()).toBe("orders");
    expect(Buffer.from(read.getBody_asU8()).toString()).toBe("hello");
    expect(read.getUserPropertiesMap().toObject()).toEqual([["colour", "grün"]]);
    expect(read.getSystemProperties()!.toObject()).toMatchObject({
      tag: "t",
      keysList: ["k1", "k2"],
      messageId: "ID1",
      bornHost: "here",
      traceContext: "trace",
      bodyDigest: { type: 2, checksum: "5D41402ABC4B2A76B9719D911017C592" }, // md5sum of "hello"
      bodyEncoding: 1,
      messageType: 1,
      receiptHandle: "H",
      deliveryAttempt: 2,
      invisibleDuration: { seconds: 30, nanos: 0 },
      storeTimestamp: { seconds: 1_700_000_000, nanos: 0 },
      storeHost: "store:1",
      queueId: 0,
      queueOffset: 0,
    });
  });

  it("says what the broker says, whatever its producer wrote there", () => {
    const message = aMessage("orders", "hello");
    const lie = new definitions.SystemProperties()
      .setReceiptHandle("theirs")
      .setDeliveryAttempt(99)
      .setQueueId(7)
      .setQueueOffset(70)
      .setStoreHost("theirs")
      .setBodyDigest(new definitions.Digest().setType(1).setChecksum("0"));
    lie.setMessageId("ID1");
    message.setSystemProperties(lie);
    expect(delivered(stored(message)).getSystemProperties()!.toObject()).toMatchObject({
      receiptHandle: "H",
      deliveryAttempt: 2,
      queueId: 0,
      queueOffset: 0,
      storeHost: "store:1",
      bodyDigest: { type: 2, checksum: "5D41402ABC4B2A76B9719D911017C592" },
    });
  });

  it("of an open transaction has what a checker needs", () => {
    const command = requests.TelemetryCommand.deserializeBinary(recoverTransaction(stored(), "T1", "store:1"));
    const recover = command.getRecoverOrphanedTransactionCommand()!;
    expect(recover.getTransactionId()).toBe("T1");
    expect(recover.getMessage()!.getSystemProperties()!.getMessageId()).toBe("ID1");
    expect(recover.getMessage()!.getSystemProperties()!.getBodyDigest()!.getType()).toBe(2);
  });

  it("is followed by the time", () => {
    const reply = requests.ReceiveMessageResponse.deserializeBinary(deliveryTime(1_700_000_000_123));
    expect(reply.getDeliveryTimestamp()!.toObject()).toEqual({ seconds: 1_700_000_000, nanos: 123_000_000 });
  });
});
