import { connect as connectHttp2, constants } from "node:http2";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import requests from "rocketmq-client-nodejs/proto/apache/rocketmq/v2/service_pb.js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRemotingAdmin } from "../../adapters/rocketmq/remoting-admin.ts";
import { createSession } from "../../adapters/rocketmq/session.ts";
import { eventually, parts } from "../../adapters/rocketmq/testing.ts";
import { systemTimers } from "../../adapters/system/system-time.ts";
import { code, method } from "../../protocol/messaging-service.ts";
import { silentLog } from "../../runtime/log.ts";
import { startBrokerServer } from "./server.ts";
import { aMessage, bytes, duration, receiveRequest, resource, sendRequest, statusOf } from "./testing/requests.ts";
import { startTestServer } from "./testing/start.ts";

let server: Awaited<ReturnType<typeof startTestServer>>;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.stop());

const port = () => server.server.address.port;
const asIs = (reply: Buffer): Buffer => reply;
const route = bytes(new requests.QueryRouteRequest().setTopic(resource("orders")));

/** What the server sends before it closes; our own side is left open. */
const says = (begin: (socket: Socket) => void): Promise<Buffer> =>
  new Promise((resolve) => {
    const received: Buffer[] = [];
    const socket = connect(port(), "127.0.0.1", () => begin(socket));
    socket.on("data", (part: Buffer) => received.push(part));
    socket.on("error", () => {});
    socket.on("close", () => resolve(Buffer.concat(received)));
  });

describe("one port", () => {
  it("takes gRPC in plaintext and in TLS, with the certificate that it shows", async () => {
    const certificate = await new Promise<Buffer>((resolve) => {
      const socket = connectTls({ port: port(), rejectUnauthorized: false, ALPNProtocols: ["h2"] }, () => {
        expect(socket.alpnProtocol).toBe("h2");
        resolve(Buffer.from(pem(socket.getPeerX509Certificate()!.raw)));
        socket.destroy();
      });
    });
    for (const tls of [undefined, { rootCertificates: certificate }]) {
      const endpoint = tls === undefined ? server.endpoint : `localhost:${port()}`;
      const session = createSession({ endpoint, ...parts, ...(tls === undefined ? {} : { tls }) });
      const call = { method: method.queryRoute, request: route, timeoutMs: 3_000, decode: asIs };
      const reply = await session.unary(call);
      expect(reply).toMatchObject({ ok: true });
      const queue = requests.QueryRouteResponse.deserializeBinary((reply as { value: Buffer }).value)
        .getMessageQueuesList()[0]!
        .toObject();
      expect(`${queue.broker!.endpoints!.addressesList[0]!.host}:${port()}`).toBe(endpoint);
      session.close();
    }
  });

  it("takes administration, and says no to what it does not know", async () => {
    const admin = createRemotingAdmin({ broker: server.endpoint, timers: systemTimers });
    expect(await admin.topic("made")).toBeUndefined();
    await admin.createTopic({ name: "made", type: "FIFO", queues: 3 });
    expect(await admin.topic("made")).toEqual({ name: "made", type: "FIFO", queues: 3 });
    await expect(admin.createTopic({ name: "made", type: "DELAY" })).rejects.toThrow("exists with type FIFO");
    expect(await admin.group("readers")).toBeUndefined();
    await admin.createGroup({ name: "readers", retryMaxTimes: 3 });
    expect(await admin.group("readers")).toEqual({ name: "readers", retryMaxTimes: 3, orderly: false });
    expect(server.broker.groups()).toContainEqual({ name: "readers", attemptsMax: 4, orderly: false });
  });

  it("closes everything else without a word, and lives on", async () => {
    const garbage = [
      Buffer.from("GET / HTTP/1.1\r\n\r\n"),
      Buffer.from([0xff, 0xfe]),
      Buffer.from([0, 0, 0, 1, 9, 9, 9, 9]),
    ];
    for (const bytesOf of garbage) expect(await says((socket) => socket.write(bytesOf))).toEqual(Buffer.alloc(0));
    // HTTP/2 is answered with its settings and a goodbye, and TLS with an alert, before the end.
    await says((socket) => socket.write("PUT / HTTP/1.1\r\n\r\n"));
    await says((socket) => socket.write(Buffer.from([0x16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])));
    for (let i = 0; i < 20; i++)
      await says((socket) => void socket.write("PRI * HTTP/2.0\r\n", () => socket.resetAndDestroy()));
    const session = createSession({ endpoint: server.endpoint, ...parts });
    const reply = await session.unary({ method: method.queryRoute, request: route, timeoutMs: 3_000, decode: asIs });
    expect(reply.ok).toBe(true);
    session.close();
  });
});

const pem = (der: Buffer): string =>
  `-----BEGIN CERTIFICATE-----\n${der.toString("base64")}\n-----END CERTIFICATE-----\n`;

describe("gRPC", () => {
  const frame = (message: Buffer, flag = 0): Buffer => {
    const head = Buffer.alloc(5);
    head[0] = flag;
    head.writeUInt32BE(message.length, 1);
    return Buffer.concat([head, message]);
  };

  /** One call by hand: what to send, in what pieces; what came back. */
  const call = (
    path: string,
    pieces: readonly Buffer[],
    headers: Record<string, string> = {},
  ): Promise<{ body: Buffer; status: string | undefined }> =>
    new Promise((resolve) => {
      const client = connectHttp2(`http://127.0.0.1:${port()}`);
      const stream = client.request({
        ":method": "POST",
        ":path": path,
        "content-type": "application/grpc",
        te: "trailers",
        "x-mq-client-id": "by-hand",
        ...headers,
      });
      const received: Buffer[] = [];
      let status: string | undefined;
      stream.on("response", (found) => {
        status = found["grpc-status"] as string | undefined;
      });
      stream.on("trailers", (found) => {
        status = found["grpc-status"] as string | undefined;
      });
      stream.on("data", (part: Buffer) => received.push(part));
      stream.on("error", () => {});
      stream.on("close", () => {
        client.destroy();
        resolve({ body: Buffer.concat(received), status });
      });
      for (const piece of pieces) stream.write(piece);
      stream.end();
    });

  it("answers a call in pieces, and refuses what is not one message", async () => {
    const whole = frame(route);
    const { body, status } = await call(method.queryRoute, [whole.subarray(0, 3), whole.subarray(3)]);
    expect([status, statusOf(body.subarray(5))]).toEqual(["0", code.ok]);
    expect((await call(method.queryRoute, [])).status).toBe("3");
    expect((await call(method.queryRoute, [whole, whole])).status).toBe("3");
    expect((await call(method.queryRoute, [frame(route, 1)])).status).toBe("12");
    expect((await call("/other.Service/Method", [whole])).status).toBe("12");
    const session = createSession({ endpoint: server.endpoint, ...parts });
    const unknown = { method: "/other.Service/Method", request: route, timeoutMs: 3_000, decode: asIs };
    expect(await session.unary(unknown)).toMatchObject({ ok: false, failure: { code: 12 } });
    session.close();
    expect((await call(method.sendMessage, [frame(Buffer.alloc(9 * 1024 * 1024))])).status).toBe("8");
    expect((await call(method.telemetry, [frame(Buffer.from([0x12, 0x7f]))])).status).toBe("3");
    expect((await call(method.telemetry, [Buffer.from("007fffffff00", "hex")])).status).toBe("8");
    expect(statusOf((await call(method.heartbeat, [frame(Buffer.from([0xff]))])).body.subarray(5))).toBe(40_000);
    const nobody = await call(method.queryRoute, [whole], { "x-mq-client-id": "" });
    expect(statusOf(nobody.body.subarray(5))).toBe(code.clientIdRequired);
  });

  it("brings bodies of 4 MiB both ways", async () => {
    const session = createSession({ endpoint: server.endpoint, ...parts });
    const body = Buffer.alloc(4_194_304, 0x5a);
    const request = sendRequest(aMessage("large", body), aMessage("large", "small"));
    const sent = await session.unary({ method: method.sendMessage, request, timeoutMs: 5_000, decode: statusOf });
    expect(sent).toEqual({ ok: true, value: code.ok });
    const bodies: Buffer[] = [];
    const failure = await session.serverStream({
      method: method.receiveMessage,
      request: bytes(receiveRequest("large").setInvisibleDuration(duration(10))),
      timeoutMs: 5_000,
      signal: new AbortController().signal,
      onData: (part) => {
        const message = requests.ReceiveMessageResponse.deserializeBinary(part).getMessage();
        if (message !== undefined) bodies.push(Buffer.from(message.getBody_asU8()));
      },
    });
    expect(failure).toBeUndefined();
    expect(bodies.map((one) => one.length)).toEqual([4_194_304, 5]);
    expect(bodies[0]!.equals(body)).toBe(true);
    session.close();
  });

  it("a client that vanishes in a long poll leaves nothing behind", async () => {
    const client = connectHttp2(`http://127.0.0.1:${port()}`);
    client.on("error", () => {});
    for (let i = 0; i < 50; i++) {
      const stream = client.request({
        ":method": "POST",
        ":path": method.receiveMessage,
        "content-type": "application/grpc",
        "x-mq-client-id": "vanishing",
        "grpc-timeout": "30S",
      });
      stream.on("error", () => {});
      stream.end(frame(bytes(receiveRequest("quiet").setInvisibleDuration(duration(10)))));
      if (i % 2 === 0) stream.on("response", () => stream.close(constants.NGHTTP2_CANCEL));
    }
    await eventually("25 polls wait", 2_000, () => server.broker.waiting() === 25);
    client.destroy();
    await eventually("none waits", 2_000, () => server.broker.waiting() === 0);
    await eventually("the connection is forgotten", 2_000, () => server.server.connections === 0);
  });
});

it("a certificate that is none is refused at the start, and not when the first client comes", async () => {
  const { broker, service } = server;
  const tls = { key: "not a key", cert: "nor a certificate" };
  const options = { host: "127.0.0.1", port: 0, broker, service, timers: systemTimers, log: silentLog, tls };
  await expect(startBrokerServer(options)).rejects.toThrow(/certificate/);
});
