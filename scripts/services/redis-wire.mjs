// The few words of the Redis protocol that starting and joining servers needs, so that this runs before `npm install`.
// One connection, one command, one reply. Not a client: no pipelines, no nested replies.

import { connect } from "node:net";

export function redisCommand(port, words, limitMs = 2_000) {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1" });
    const parts = [];
    const end = (act, value) => {
      clearTimeout(timer);
      socket.destroy();
      act(value);
    };
    const timer = setTimeout(() => end(reject, new Error(`no reply to ${words[0]} within ${limitMs} ms`)), limitMs);
    socket.on("error", (error) => end(reject, error));
    socket.on("close", () => end(reject, new Error("connection closed before the reply")));
    socket.on("data", (part) => {
      parts.push(part);
      const bytes = Buffer.concat(parts);
      const lineEnd = bytes.indexOf("\r\n");
      if (lineEnd < 0) return;
      const kind = String.fromCharCode(bytes[0]);
      const line = bytes.toString("utf8", 1, lineEnd);
      if (kind === "+" || kind === ":") end(resolve, line);
      else if (kind === "-") end(reject, new Error(line));
      else if (kind === "$") {
        const length = Number(line);
        if (length < 0) end(resolve, null);
        else if (bytes.length >= lineEnd + 2 + length + 2)
          end(resolve, bytes.toString("utf8", lineEnd + 2, lineEnd + 2 + length));
      } else end(reject, new Error(`a reply of kind "${kind}" is not understood here`));
    });
    const bytes = words.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`).join("");
    socket.write(`*${words.length}\r\n${bytes}`);
  });
}
