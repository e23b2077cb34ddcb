import { type Metadata, Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from "@grpc/grpc-js";
import definitions from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js";
import requests from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_pb.js";
import { code, method } from "../../protocol/messaging-service.ts";

/**
 * A proxy for tests that does what a real one cannot be asked to do: be silent, cut the line, answer nonsense, answer
 * for each message apart. It knows SendMessage only; everything that a real proxy can show is tested with a real one.
 */
export type FakeProxy = {
  readonly endpoint: string;
  readonly calls: readonly FakeCall[];
  /** Cuts all connections. */
  stop(): void;
};

export type FakeCall = {
  readonly peer: string;
  readonly headers: Metadata;
  readonly tags: readonly string[];
};

/** What to answer; undefined: nothing, ever. */
export type FakeAnswer = (call: FakeCall, nth: number) => Buffer | undefined | Promise<Buffer>;

const asIs = (bytes: Buffer): Buffer => bytes;

export const answer = (statusCode: number, text = "", entryCodes: readonly number[] = [statusCode]): Buffer => {
  const status = (value: number) => new definitions.Status().setCode(value as never).setMessage(text);
  const reply = new requests.SendMessageResponse().setStatus(status(statusCode));
  for (const entryCode of entryCodes) reply.addEntries().setStatus(status(entryCode));
  return Buffer.from(reply.serializeBinary());
};

export const ok = answer(code.ok);

export const startFakeProxy = async (respond: FakeAnswer, port = 0): Promise<FakeProxy> => {
  const calls: FakeCall[] = [];
  const server = new Server();
  const sendMessage = async (call: ServerUnaryCall<Buffer, Buffer>, reply: sendUnaryData<Buffer>) => {
    const messages = requests.SendMessageRequest.deserializeBinary(call.request).getMessagesList();
    const tags = messages.map((message) => message.getSystemProperties()?.getTag() ?? "");
    const seen = { peer: call.getPeer(), headers: call.metadata, tags };
    calls.push(seen);
    const bytes = await respond(seen, calls.length);
    if (bytes !== undefined) reply(null, bytes);
  };
  server.addService(
    {
      sendMessage: {
        path: method.sendMessage,
        requestStream: false,
        responseStream: false,
        requestSerialize: asIs,
        requestDeserialize: asIs,
        responseSerialize: asIs,
        responseDeserialize: asIs,
      },
    },
    { sendMessage },
  );
  const bound = await new Promise<number>((resolve, reject) => {
    const credentials = ServerCredentials.createInsecure();
    server.bindAsync(`127.0.0.1:${port}`, credentials, (error, at) => (error === null ? resolve(at) : reject(error)));
  });
  return { endpoint: `127.0.0.1:${bound}`, calls, stop: () => server.forceShutdown() };
};
