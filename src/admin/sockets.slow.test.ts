import { afterAll, afterEach, describe, expect, it, test } from "vitest";
import { formatInstant } from "../message/time.ts";
import type { HttpLimits } from "./http-limits.ts";
import { listen, RawClient, type TestApp, testApp, testNowMs } from "./testing.ts";

// What only shows on a real connection: slowness, halves, aborts, broken HTTP, back-pressure.

let t: TestApp;
const clients: RawClient[] = [];

/** Building an app takes a tenth of a second, so those that need no limits of their own share one. */
const shared = testApp();
let sharedPort: Promise<number> | undefined;
const start = async (limits?: Partial<HttpLimits>): Promise<number> => {
  t = limits === undefined ? shared : testApp({ limits });
  t.intake.reset();
  t.bugs.length = 0;
  if (t !== shared) return listen(t.app);
  sharedPort ??= listen(shared.app);
  return sharedPort;
};
const connect = (port: number, options?: { allowHalfOpen?: boolean }): RawClient => {
  const client = new RawClient(port, options);
  clients.push(client);
  return client;
};
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  if (t !== shared) await t.app.close();
});
afterAll(() => shared.app.close());

const least = JSON.stringify({ topic: "orders", body: "hello", delay: "30m" });
const post = (body: string, headers = "", url = "/v1/messages", type = "application/json") =>
  `POST ${url} HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${headers}\r\n${body}`;
const chunked = (type: string, url: string, headers = "") =>
  `POST ${url} HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n${headers}\r\n`;
const chunk = (text: string) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;
const lastChunk = "0\r\n\r\n";
const lines = (count: number, line = least) => `${line}\n`.repeat(count);
const statuses = (client: RawClient) => [...client.received.matchAll(/HTTP\/1\.1 (\d{3})/g)].map((match) => match[1]);
/** Tries again until it holds, because a loaded machine takes its time. */
const eventually = async (holds: () => boolean | Promise<boolean>): Promise<void> => {
  for (let tries = 0; !(await holds()); tries++) {
    if (tries > 500) throw new Error("it never held");
    await pause(10);
  }
};
/** The status of one request on a connection of its own. */
const statusOf = async (port: number, request: string): Promise<string> => {
  const client = connect(port);
  client.send(request);
  return (await client.until(/HTTP\/1\.1 (\d{3})/))[1]!;
};
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("slow peers", () => {
  const limits = { receiveTimeoutMs: 300 };

  it("are cut in the middle of a body, with an answer, and nothing is stored", async () => {
    const client = connect(await start(limits));
    const request = post(least);
    client.send(request.slice(0, -5));
    await client.until(/HTTP\/1\.1 408 [\s\S]*"code":"request_timeout"/);
    client.send(request.slice(-5));
    await client.closed;
    expect(t.intake.accepted).toHaveLength(0);
  });

  it("are cut when they trickle, however regularly", async () => {
    const client = connect(await start(limits));
    client.send(post(least).slice(0, -40));
    const trickle = setInterval(() => client.send(" "), 25);
    await client.until(/HTTP\/1\.1 408/);
    clearInterval(trickle);
  });

  it("are cut in the middle of the headers", async () => {
    const client = connect(await start(limits));
    client.send("POST /v1/messages HTTP/1.1\r\nHost: x\r\n");
    await client.until(/HTTP\/1\.1 408 [\s\S]*"code":"request_timeout"/);
    await client.closed;
  });

  it("are cut when they do not send the rest of what was refused already", async () => {
    const client = connect(await start(limits));
    client.send(post("x".repeat(5000), "Content-Encoding: gzip\r\n").slice(0, -10));
    await client.until(/HTTP\/1\.1 415/);
    await client.closed;
  });

  it("are cut in the middle of a line, after the lines before it were answered", async () => {
    const client = connect(await start(limits));
    client.send(chunked("application/x-ndjson", "/v1/messages/batch"));
    client.send(chunk(`${least}\n${least.slice(0, 9)}`));
    await client.until(/"index":0,"message"/);
    const trickle = setInterval(() => client.send(chunk(" ")), 25);
    await client.closed;
    clearInterval(trickle);
    expect(client.received).not.toContain("0\r\n\r\n");
    expect(t.intake.accepted).toHaveLength(1);
  });

  it("are not cut while they send a line now and then", async () => {
    const client = connect(await start({ receiveTimeoutMs: 1_000 }));
    client.send(chunked("application/x-ndjson", "/v1/messages/batch"));
    for (let i = 0; i < 5; i++) {
      await pause(300);
      client.send(chunk(`${least}\n`));
    }
    client.send(lastChunk);
    await client.until(/0\r\n\r\n$/);
    expect(t.intake.accepted).toHaveLength(5);
  });

  it("are not cut while it is we who take long", async () => {
    const client = connect(await start(limits));
    let open: () => void = () => {};
    t.intake.gate = new Promise((resolve) => {
      open = resolve;
    });
    client.send(post(lines(2), "", "/v1/messages/batch", "application/x-ndjson"));
    await pause(700);
    open();
    await client.until(/"index":1,"message"[\s\S]*0\r\n\r\n$/);
  });
});

describe("a stream of lines", () => {
  const url = "/v1/messages/batch";
  const ndjson = "application/x-ndjson";

  it("answers a line before the next one is sent", async () => {
    const client = connect(await start());
    client.send(chunked(ndjson, url));
    for (let i = 0; i < 3; i++) {
      client.send(chunk(`${least}\n`));
      await client.until(new RegExp(`"index":${i},"message"`));
      expect(t.intake.accepted).toHaveLength(i + 1);
    }
    client.send(chunk(least));
    client.send(lastChunk);
    await client.until(/"index":3,"message"[\s\S]*\r\n0\r\n\r\n$/);
  });

  it("answers broken lines with their error and goes on", async () => {
    const client = connect(await start({ lineBytesMax: 500 }));
    const bad = [
      ["{", "invalid_json"],
      ["[]", "invalid_request"],
      ['{"topic":"\xff"}', "invalid_utf8"],
      ['{"__proto__":{}}', "invalid_request"],
      [`{"topic":"${"a".repeat(500)}"}`, "request_too_large"],
      ['{"topic":"a"}', "time_missing"],
    ] as const;
    const text = bad.map(([line]) => `${line}\n\r\n ${least}\r\n`).join("");
    client.send(chunked(ndjson, url));
    for (let at = 0; at < text.length; at += 97) {
      const part = Buffer.from(text.slice(at, at + 97), "latin1");
      client.send(Buffer.concat([Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from("\r\n")]));
    }
    client.send(lastChunk);
    await client.until(/\r\n0\r\n\r\n$/);
    const replies = [...client.received.matchAll(/^(\{"index".*\})$/gm)].map(([line]) => JSON.parse(line));
    expect(replies.map(({ index }) => index)).toEqual(Array.from({ length: 12 }, (_, i) => i));
    expect(replies.map(({ error }) => error?.code)).toEqual(bad.flatMap(([, code]) => [code, undefined]));
    expect(t.intake.accepted).toHaveLength(6);
  });

  it("never gives the store more than 200 at a time", async () => {
    const client = connect(await start());
    client.send(post(lines(1234, least), "", url, ndjson));
    await client.until(/"index":1233,"message"/);
    expect(Math.max(...t.intake.batchSizes)).toBe(200);
    expect(t.intake.accepted).toHaveLength(1234);
  });

  it("answers each line with the error when the store fails, and goes on when it recovers", async () => {
    const client = connect(await start());
    t.intake.failure = new TypeError("secret");
    client.send(chunked(ndjson, url));
    client.send(chunk(lines(2)));
    await client.until(/"index":1,"error":\{[^}]*"code":"internal"/);
    t.intake.failure = undefined;
    client.send(chunk(lines(1)));
    client.send(lastChunk);
    await client.until(/"index":2,"message"[\s\S]*\r\n0\r\n\r\n$/);
    expect(client.received).not.toContain("secret");
    expect(t.bugs).toHaveLength(1);
  });

  it("reads no more than a bounded amount from a peer that does not read its results", async () => {
    const port = await start();
    const client = connect(port);
    client.socket.pause();
    client.send(chunked(ndjson, url));
    const piece = chunk(lines(500));
    // Sends as long as it can, until neither side has moved for a while.
    let accepted = -1;
    for (let still = 0; still < 4; ) {
      while (!client.socket.writableNeedDrain) client.socket.write(piece);
      await pause(150);
      still = client.socket.writableNeedDrain && accepted === t.intake.accepted.length ? still + 1 : 0;
      accepted = t.intake.accepted.length;
      expect(accepted).toBeLessThan(500_000);
    }
    // It goes on where it stood as soon as the peer reads.
    client.socket.resume();
    await client.until(new RegExp(`"index":${accepted + 500},`));
  });

  it("cuts a peer that never reads its results", async () => {
    const client = connect(await start({ receiveTimeoutMs: 300 }));
    client.socket.pause();
    client.send(chunked(ndjson, url));
    const flood = setInterval(() => client.socket.writable && client.send(chunk(lines(5_000))), 5);
    await new Promise((resolve) => client.socket.once("error", resolve));
    clearInterval(flood);
  }, 10_000);

  it("works for a peer that closes its side after sending", async () => {
    const client = connect(await start(), { allowHalfOpen: true });
    client.socket.end(post(lines(300), "", url, ndjson));
    await client.until(/"index":299,"message"[\s\S]*\r\n0\r\n\r\n$/);
  });

  it("never looks at the unfinished line of an upload that broke off", async () => {
    const client = connect(await start());
    client.send(chunked(ndjson, url));
    client.send(chunk(`${least}\n${least}`));
    await client.until(/"index":0,"message"/);
    client.socket.destroy();
    await pause(50);
    expect(t.intake.accepted).toHaveLength(1);
    const again = connect((t.app.server.address() as { port: number }).port);
    again.send(chunked(ndjson, url));
    again.send(chunk(least));
    again.socket.end();
    await again.closed;
    expect(t.intake.accepted).toHaveLength(1);
    expect(t.bugs).toEqual([]);
  });
});

describe("broken requests", () => {
  test.each<[string, string, string, string]>([
    ["rubbish", "\x16\x03\x01\x02\0\r\n\r\n", "400", "invalid_request"],
    ["two lengths", post(least, "Content-Length: 5\r\n"), "400", "invalid_request"],
    ["length and chunks", post(least, "Transfer-Encoding: chunked\r\n"), "400", "invalid_request"],
    ["a negative length", post(least).replace(/Length: \d+/, "Length: -1"), "400", "invalid_request"],
    ["a length in hex", post(least).replace(/Length: \d+/, "Length: 0x10"), "400", "invalid_request"],
    ["a bad chunk", `${chunked("application/json", "/v1/messages")}zz\r\n`, "400", "invalid_request"],
    ["large headers", post(least, `X-Large: ${"a".repeat(20_000)}\r\n`), "413", "request_too_large"],
    [
      "a long url",
      `GET /v1/messages?key=${"a".repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
      "413",
      "request_too_large",
    ],
    ["no host", "GET /health/live HTTP/1.1\r\n\r\n", "400", ""],
    ["a body in gzip", post(least, "Content-Encoding: gzip\r\n"), "415", "unsupported_media_type"],
    ["a body in two codings", post(least, "Content-Encoding: identity, gzip\r\n"), "415", "unsupported_media_type"],
    ["no content type", post(least).replace(/Content-Type.*\r\n/, ""), "415", "unsupported_media_type"],
    ["a form", post(least, "", "/v1/messages", "application/x-www-form-urlencoded"), "415", "unsupported_media_type"],
    ["lines for one", post(least, "", "/v1/messages", "application/x-ndjson"), "415", "unsupported_media_type"],
    ["a large body", post(least).replace(/Length: \d+/, "Length: 8388609"), "413", "request_too_large"],
    ["no body", post(""), "400", "invalid_json"],
    ["blank body", post(" \r\n "), "400", "invalid_json"],
  ])("%s", async (_, request, status, code) => {
    const client = connect(await start());
    client.send(Buffer.from(request, "latin1"));
    await client.until(new RegExp(`HTTP/1\\.1 ${status} [\\s\\S]*${code}`));
    expect(statuses(client)).toEqual([status]);
    expect(t.intake.accepted).toHaveLength(0);
    expect(t.bugs).toEqual([]);
  });

  it("are refused while a body of unknown length streams in", async () => {
    const client = connect(await start({ requestBytesMax: 10_000 }));
    client.send(chunked("application/json", "/v1/messages"));
    for (let i = 0; i < 11; i++) client.send(chunk(" ".repeat(1_000)));
    await client.until(/HTTP\/1\.1 413 [\s\S]*"code":"request_too_large"/);
    await client.closed;
  });

  it("store nothing when the upload of one message breaks off", async () => {
    const client = connect(await start());
    client.send(post(least).slice(0, -1));
    await pause(50);
    client.destroy();
    await pause(50);
    expect(t.intake.accepted).toHaveLength(0);
    expect(t.bugs).toEqual([]);
  });

  it("do not cost the connection when they were read to their end", async () => {
    const client = connect(await start());
    client.send(post("{"));
    await client.until(/"code":"invalid_json"/);
    client.send(post(least));
    await client.until(/HTTP\/1\.1 201[\s\S]*"state":"scheduled"/);
    client.send(post(least, "Content-Encoding: gzip\r\n"));
    await client.until(/HTTP\/1\.1 415[\s\S]*"unsupported_media_type"/);
    client.send(post(least));
    await client.until(/(HTTP\/1\.1 201[\s\S]*){2}/);
    expect(statuses(client)).toEqual(["400", "201", "415", "201"]);
  });
});

describe("overload", () => {
  it("is answered by the headers alone, before the body is read, and ends when requests end", async () => {
    const port = await start({ inFlightRequestsMax: 2 });
    let open: () => void = () => {};
    t.intake.gate = new Promise((resolve) => {
      open = resolve;
    });
    const busy = [connect(port), connect(port)];
    for (const client of busy) client.send(post(least));
    await eventually(() => t.intake.calls === 2);
    const third = connect(port);
    third.send(post(least).slice(0, -least.length));
    await third.until(/HTTP\/1\.1 429 [\s\S]*retry-after: 1[\s\S]*"code":"overloaded"/i);
    // Looking and probing goes on.
    const probe = connect(port);
    probe.send("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n");
    await probe.until(/HTTP\/1\.1 200/);
    open();
    for (const client of busy) await client.until(/HTTP\/1\.1 201/);
    await eventually(async () => (await statusOf(port, post(least))) === "201");
    expect(t.intake.accepted).toHaveLength(3);
  });

  it("counts bytes, and a body of unknown length as the largest", async () => {
    const port = await start({ inFlightBytesMax: 3_000, requestBytesMax: 2_000 });
    const first = connect(port);
    first.send(chunked("application/json", "/v1/messages"));
    await eventually(async () => (await statusOf(port, post(" ".repeat(1_500)))) === "429");
    expect(await statusOf(port, post(least))).toBe("201");
    first.destroy();
    await eventually(async () => (await statusOf(port, post(least + " ".repeat(1_500)))) === "201");
  });

  it("is forgotten for every way in which a request can end", async () => {
    const port = await start({ inFlightRequestsMax: 1, receiveTimeoutMs: 200 });
    const ways: ((client: RawClient) => Promise<unknown>)[] = [
      async (client) => {
        client.send(post(least));
        await client.until(/201/);
      },
      async (client) => {
        client.send(post("{"));
        await client.until(/400/);
      },
      async (client) => {
        client.send(post(least).slice(0, -1));
        await client.until(/408/);
      },
      async (client) => {
        client.send(post(least).slice(0, -1));
        await pause(20);
        client.destroy();
        await pause(20);
      },
      async (client) => {
        client.send(post(lines(2), "", "/v1/messages/batch", "application/x-ndjson"));
        await client.until(/\r\n0\r\n\r\n$/);
      },
      async (client) => {
        client.send(chunked("application/x-ndjson", "/v1/messages/batch") + chunk(`${least}\n`));
        await client.until(/"index":0/);
        client.destroy();
      },
    ];
    for (const way of [...ways, ...ways]) {
      await way(connect(port));
      await eventually(async () => (await statusOf(port, post(least))) === "201");
    }
  });
});

it("finishes what is under way when it closes", async () => {
  const port = await start({});
  let open: () => void = () => {};
  t.intake.gate = new Promise((resolve) => {
    open = resolve;
  });
  const client = connect(port);
  client.send(post(least));
  await eventually(() => t.intake.calls === 1);
  const closing = t.app.close();
  await pause(50);
  open();
  await client.until(new RegExp(`HTTP/1\\.1 201[\\s\\S]*${formatInstant(testNowMs).slice(0, 10)}`));
  await closing;
});
