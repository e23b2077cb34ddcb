import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { createServer as createTlsServer, type Server as TlsServer } from "node:tls";
import type { Log } from "../../runtime/log.ts";
import { sleep, type Timers } from "../../runtime/timers.ts";
import type { Broker } from "../broker.port.ts";
import { serveAdmin } from "./admin-connection.ts";
import { type GrpcConnection, serveGrpc } from "./grpc-connection.ts";
import type { MessagingService } from "./messaging-service.ts";
import type { Address } from "./requests.ts";
import { selfSignedCertificate } from "./self-signed.ts";

/**
 * One TCP port for everything, as clients expect it: gRPC in plaintext or TLS (Java and Go begin with TLS, Node and
 * Python without), and RocketMQ's older remoting protocol for `escapement topics` and `groups`. The first byte tells:
 * 0x16 begins a TLS handshake, `P` the preface of HTTP/2, 0x00 the length of a remoting frame. Anything else is
 * closed without a word.
 */
export type BrokerServerOptions = {
  readonly host: string;
  /** 0 for any that is free. */
  readonly port: number;
  readonly broker: Broker;
  readonly service: MessagingService;
  /** PEM. Absent: a certificate of our own, made when the first client wants TLS; Java and Go clients take any. */
  readonly tls?: { readonly key: Buffer | string; readonly cert: Buffer | string };
  readonly timers: Timers;
  readonly log: Log;
};

export type BrokerServer = {
  readonly address: Address;
  readonly connections: number;
  /** Lets calls end that are being answered, for a moment, and then cuts all connections. */
  close(): Promise<void>;
};

/** Each takes some 50 KiB. */
const connectionsMax = 4_096;
/** Whoever connects and says nothing, or begins a TLS handshake and leaves it. */
const silentMs = 10_000;
/**
 * A Node client that has just said goodbye ends its process when its stream is cut instead of ended; so little time is
 * enough for that, and long polls end meanwhile (MessagingService.stop).
 */
const leaveMs = 500;
/** The kernel asks after a while whether the other end is still there. */
const keepAliveMs = 60_000;

const tlsByte = 0x16;
const http2Byte = 0x50;
const remotingByte = 0x00;

export const startBrokerServer = async (options: BrokerServerOptions): Promise<BrokerServer> => {
  const { broker, service, timers, log } = options;
  const pending = { bytes: 0 };
  const sockets = new Set<Socket>();
  const grpcConnections = new Map<Socket, GrpcConnection>();
  /** Listens nowhere: connections that begin with a TLS handshake are handed to it. */
  const createDecrypter = (certificate: NonNullable<BrokerServerOptions["tls"]>): TlsServer => {
    let made: TlsServer;
    try {
      made = createTlsServer({ ...certificate, ALPNProtocols: ["h2"], handshakeTimeout: silentMs });
    } catch (error) {
      throw new Error("the broker's TLS key and certificate must be PEM and belong together", { cause: error });
    }
    made.on("tlsClientError", (_, secure) => secure.destroy());
    made.on("secureConnection", (secure) => {
      secure.on("error", () => {});
      peek(secure, (first) => serve(secure, first));
    });
    return made;
  };
  // One of our own is made when the first client wants it; a wrong one that was given is to be said at once.
  let decrypter = options.tls === undefined ? undefined : createDecrypter(options.tls);
  const decrypt = (socket: Socket): void => {
    decrypter ??= createDecrypter(selfSignedCertificate());
    decrypter.emit("connection", socket);
  };

  /** Calls back with the first byte, which stays to be read. */
  const peek = (socket: Socket, act: (first: number) => void): void => {
    const timer = timers.after(silentMs, () => socket.destroy());
    const look = () => {
      const part: Buffer | null = socket.read();
      if (part === null) return;
      socket.off("readable", look);
      timer.cancel();
      socket.unshift(part);
      act(part[0]!);
    };
    socket.on("readable", look);
    socket.once("close", () => timer.cancel());
  };

  /** TLS within TLS is nothing that we know. */
  const serve = (socket: Socket, first: number): void => {
    if (first === http2Byte) {
      const local: Address = { host: plainHost(socket.localAddress), port: socket.localPort ?? options.port };
      grpcConnections.set(socket, serveGrpc(socket, local, { service, pending, timers, log }));
      socket.once("close", () => grpcConnections.delete(socket));
    } else if (first === remotingByte) serveAdmin(socket, { broker, timers, log });
    else socket.destroy();
  };

  const accept = (socket: Socket): void => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    socket.on("error", () => {}); // a reset is how many clients leave
    socket.setNoDelay(true);
    socket.setKeepAlive(true, keepAliveMs);
    peek(socket, (first) => (first === tlsByte ? decrypt(socket) : serve(socket, first)));
  };

  const server = createServer(accept);
  server.maxConnections = connectionsMax;
  server.listen(options.port, options.host);
  await once(server, "listening");
  const { address, port } = server.address() as { address: string; port: number };

  return {
    address: { host: address, port },
    get connections() {
      return sockets.size;
    },
    async close() {
      const closed = once(server, "close");
      server.close();
      const left = new AbortController();
      const leaving = Promise.all([...grpcConnections.values()].map((connection) => connection.leave()));
      await Promise.race([leaving, sleep(timers, leaveMs, left.signal)]);
      left.abort();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
};

/** IPv4 clients of an IPv6 socket. */
const plainHost = (host: string | undefined): string => (host ?? "127.0.0.1").replace(/^::ffff:/, "");
