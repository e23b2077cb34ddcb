import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import requests from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_pb.js";

/** Requests made by the generated classes, the other opinion about every byte. */
export const bytes = (message: { serializeBinary(): Uint8Array }): Buffer => Buffer.from(message.serializeBinary());

export const resource = (name: string) => new definitions.Resource().setName(name);

export const aMessage = (topic = "orders", body: Buffer | string = "body") =>
  new definitions.Message()
    .setTopic(resource(topic))
    .setBody(Buffer.from(body))
    .setSystemProperties(new definitions.SystemProperties().setMessageId("ID1").setBornHost("here").setBodyEncoding(1));

export const sendRequest = (...messages: ReturnType<typeof aMessage>[]): Buffer =>
  bytes(new requests.SendMessageRequest().setMessagesList(messages));

export const receiveRequest = (topic = "orders", group = "billing", expression = "*", filterType = 1) =>
  new requests.ReceiveMessageRequest()
    .setGroup(resource(group))
    .setMessageQueue(new definitions.MessageQueue().setTopic(resource(topic)))
    .setFilterExpression(new definitions.FilterExpression().setType(filterType as never).setExpression(expression))
    .setBatchSize(32);

export const statusOf = (reply: Buffer): number =>
  requests.HeartbeatResponse.deserializeBinary(reply).getStatus()!.getCode();

/** The generated code does not export these two classes, but it reads empty ones. */
export const instant = (seconds: number, nanos: number) => {
  const made = requests.QueryOffsetRequest.deserializeBinary(Buffer.from([0x1a, 0x00])).getTimestamp()!;
  made.setSeconds(seconds);
  made.setNanos(nanos);
  return made;
};

export const duration = (seconds: number, nanos = 0) => {
  const made = requests.ReceiveMessageRequest.deserializeBinary(Buffer.from([0x2a, 0x00])).getInvisibleDuration()!;
  made.setSeconds(seconds);
  made.setNanos(nanos);
  return made;
};
