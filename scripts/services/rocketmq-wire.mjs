// One question in RocketMQ's remoting protocol, and its answer: enough to see whether a name server, a broker or a
// proxy is really serving. A port that accepts connections proves little: a broker opens its port seconds before the
// name server knows it, and a proxy that is asked too early remembers "no such topic" for about 20 s.
//
// Frame: int32 length of what follows, int32 with the codec (0 = JSON) in the top byte and the header's length below,
// header as JSON, body.

import { connect } from "node:net";

export const requestCodes = {
  maxOffset: 30, // of one queue
  routeOfTopic: 105,
  topicConfig: 351,
  replicasOfGroup: 1004, // asked of the leading controller
  controllerMetadata: 1005,
};

export function remotingRequest(port, code, extFields = {}, limitMs = 2_000) {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1" });
    const parts = [];
    const end = (act, value) => {
      clearTimeout(timer);
      socket.destroy();
      act(value);
    };
    const timer = setTimeout(
      () => end(reject, new Error(`no answer to request ${code} within ${limitMs} ms`)),
      limitMs,
    );
    socket.on("error", (error) => end(reject, error));
    socket.on("close", () => end(reject, new Error("connection closed before the answer")));
    socket.on("data", (part) => {
      parts.push(part);
      const bytes = Buffer.concat(parts);
      if (bytes.length < 8 || bytes.length < 4 + bytes.readInt32BE(0)) return;
      const headerBytes = bytes.readInt32BE(4) & 0xffffff;
      const header = JSON.parse(bytes.toString("utf8", 8, 8 + headerBytes));
      const body = bytes.toString("utf8", 8 + headerBytes, 4 + bytes.readInt32BE(0));
      if (header.code === 0) end(resolve, { header, body });
      else
        end(
          reject,
          new Error(`request ${code} was answered with code ${header.code}: ${header.remark ?? "no remark"}`),
        );
    });
    const header = Buffer.from(
      JSON.stringify({
        code,
        language: "OTHER",
        version: 0,
        opaque: 1,
        flag: 0,
        serializeTypeCurrentRPC: "JSON",
        extFields,
      }),
    );
    const lengths = Buffer.alloc(8);
    lengths.writeInt32BE(4 + header.length, 0);
    lengths.writeInt32BE(header.length, 4);
    socket.write(Buffer.concat([lengths, header]));
  });
}

/** Resolves when something accepts a connection on the port. */
export function accepts(port, limitMs = 1_000) {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", timeout: limitMs });
    socket.once("connect", () => {
      socket.destroy();
      resolve();
    });
    socket.once("timeout", () => socket.destroy(new Error(`port ${port} does not answer`)));
    socket.once("error", reject);
  });
}
