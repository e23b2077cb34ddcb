import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { TcpProxy } from "./tcp-proxy.ts";

const closing: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** A server that answers every chunk with the same in upper case, and remembers what it heard. */
const upperCase = async () => {
  const heard: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      heard.push(bytes.toString());
      socket.write(bytes.toString().toUpperCase());
    });
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  closing.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as { port: number }).port, heard };
};

const start = async () => {
  const server = await upperCase();
  const proxy = await TcpProxy.open(server.port);
  closing.push(() => proxy.close());
  const client = connect(proxy.port, "127.0.0.1");
  client.on("error", () => {});
  closing.push(() => client.destroy());
  await once(client, "connect");
  let got = "";
  client.on("data", (bytes) => {
    got += bytes.toString();
  });
  const says = async (text: string, waitMs = 60) => {
    client.write(text);
    await pause(waitMs);
    return got;
  };
  return { server, proxy, client, says };
};

describe("the proxy", () => {
  it("passes everything when it is left alone", async () => {
    const { says } = await start();
    expect(await says("hello")).toBe("HELLO");
  });

  it("swallows replies of what was done, then ends the connection", async () => {
    const { server, proxy, client, says } = await start();
    await says("a");
    const closed = once(client, "close");
    const swallowing = proxy.swallowReplies(100);
    expect(await says("secret")).toBe("A");
    expect(await swallowing).toBe("secret".length);
    await closed;
    expect(server.heard.join("")).toBe("asecret");
  });

  it("cuts at the byte it was told", async () => {
    const { server, proxy, client, says } = await start();
    proxy.cutAfter(4);
    const closed = once(client, "close");
    await says("abcdefgh");
    await closed;
    expect(server.heard.join("")).toBe("abcd");
  });

  it("holds both directions and then gives all of it", async () => {
    const { server, proxy, says } = await start();
    proxy.hold();
    expect(await says("later")).toBe("");
    expect(server.heard).toEqual([]);
    proxy.letGo();
    expect(await says("!")).toMatch(/^LATER!$/);
  });

  it("loses what it holds when it cuts", async () => {
    const { server, proxy, says } = await start();
    proxy.hold();
    await says("gone");
    proxy.cut();
    await pause(60);
    expect(server.heard).toEqual([]);
    expect(proxy.connections).toBe(0);
  });

  it("sends newcomers to another server", async () => {
    const { proxy, server } = await start();
    const other = await upperCase();
    proxy.sendTo(other.port);
    const newcomer = connect(proxy.port, "127.0.0.1");
    newcomer.on("error", () => {});
    closing.push(() => newcomer.destroy());
    await once(newcomer, "connect");
    newcomer.write("x");
    await pause(60);
    expect(other.heard).toEqual(["x"]);
    expect(server.heard).toEqual([]);
  });
});
