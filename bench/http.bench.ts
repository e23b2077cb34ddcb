import { connect } from "node:net";
import { createTopic } from "./lab/broker.ts";
import { batchRequest, bodyText200, HttpConnection, postOf, saturate } from "./lab/http-connection.ts";
import { Meter } from "./lab/meter.ts";
import type { Benchmark } from "./lab/row.ts";
import { type Server, startServer } from "./lab/server-process.ts";

/**
 * How fast messages come in over HTTP until each is on disk (Redis `always`), with everything due in an hour or more,
 * so that nothing goes out meanwhile. The generator shares the two cores with server and Redis; it sends prepared
 * bytes and reads no more of an answer than its length.
 */
const hourMs = 3_600_000;

const waiting = async (server: Server): Promise<number> =>
  (JSON.parse(await server.get("/v1/stats")) as { waiting: { total: number } }).waiting.total;

export const benchmark: Benchmark = async (lab, report) => {
  const { topic } = await createTopic(lab.rocketmq.broker, "HTTP");
  const server = await startServer(lab);
  const processes = { generator: process.pid, server: server.pid, redis: lab.redis.pid, rocketmq: lab.rocketmq.pid };
  const [warmMs, runMs] = lab.quick ? [1_000, 1_500] : [3_000, 10_000];

  const cell = async (
    id: string,
    what: string,
    connections: number,
    perRequest: number,
    requests: readonly Buffer[],
  ) => {
    const open = Array.from({ length: connections }, () => new HttpConnection(server.port));
    let turn = 0;
    const next = (): Buffer => requests[turn++ % requests.length]!;
    await saturate(open, warmMs, next);
    const before = await waiting(server);
    const meter = new Meter(processes);
    const answers = await saturate(open, runMs, next);
    const good = (answers.get(200) ?? 0) + (answers.get(201) ?? 0);
    const measured = meter.stop(good * perRequest);
    const stored = (await waiting(server)) - before;
    for (const connection of open) connection.close();
    const all = [...answers.values()].reduce((sum, count) => sum + count, 0);
    if (good !== all || stored !== good * perRequest)
      throw new Error(`${id}: ${good} of ${all} requests accepted, ${stored} messages stored`);
    report({ id, what, durability: "always", ...measured, numbers: {} });
  };

  const single = Array.from({ length: 64 }, (_, i) =>
    postOf(
      "/v1/messages",
      "application/json",
      JSON.stringify({ topic, body: bodyText200, delay: hourMs + i * 50_000 }),
    ),
  );
  await cell("http/single", "HTTP, one message per request, 64 connections", 64, 1, single);
  const batches = Array.from({ length: 16 }, () => batchRequest(() => topic, 100, hourMs, hourMs));
  await cell("http/batch", "HTTP, JSON array of 100, 8 connections", 8, 100, batches);
  await ndjson(server, topic, processes, warmMs, runMs, report);
  await server.stop();
};

/** One upload without end on each of four connections; results are read while lines are written. */
const ndjson = async (
  server: Server,
  topic: string,
  processes: ConstructorParameters<typeof Meter>[0],
  warmMs: number,
  runMs: number,
  report: Parameters<Benchmark>[1],
): Promise<void> => {
  const linesPerChunk = 100;
  const openLinesMax = 2_000;
  const chunks = Array.from({ length: 16 }, () => {
    const lines = Array.from({ length: linesPerChunk }, () => {
      const delay = hourMs + Math.floor(Math.random() * hourMs);
      return `${JSON.stringify({ topic, body: bodyText200, delay })}\n`;
    }).join("");
    return Buffer.from(`${lines.length.toString(16)}\r\n${lines}\r\n`);
  });
  const before = await waiting(server);
  let sent = 0;
  let answered = 0;
  let errors = 0;
  let sending = true;
  const streams = Array.from({ length: 4 }, (_, i) => {
    const socket = connect({ host: "127.0.0.1", port: server.port, noDelay: true });
    let turn = i * 4;
    let open = 0;
    let last = 0;
    let ended = false;
    const more = (): void => {
      while (sending && open + linesPerChunk <= openLinesMax) {
        open += linesPerChunk;
        sent += linesPerChunk;
        socket.write(chunks[turn++ % chunks.length]!);
      }
    };
    const finish = (): void => {
      if (sending || open > 0 || ended) return;
      ended = true;
      socket.write("0\r\n\r\n");
    };
    const done = new Promise<void>((resolve, reject) => {
      socket.on("error", reject);
      socket.on("close", () => resolve());
    });
    socket.on("data", (part: Buffer) => {
      let results = 0;
      // A result ends with "}\n"; a chunk's own header ends with "\r\n".
      for (let at = part.indexOf(10); at >= 0; at = part.indexOf(10, at + 1)) {
        if ((at === 0 ? last : part[at - 1]) === 0x7d) results++;
      }
      if (part.includes('"error"')) errors++;
      last = part[part.length - 1]!;
      answered += results;
      open -= results;
      more();
      finish();
    });
    socket.write(
      "POST /v1/messages/batch HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
    );
    more();
    return done;
  });
  const elapse = (durationMs: number) => new Promise((resolve) => setTimeout(resolve, durationMs));
  await elapse(warmMs);
  const warm = answered;
  const meter = new Meter(processes);
  await elapse(runMs);
  const measured = meter.stop(answered - warm);
  sending = false;
  await Promise.all(streams);
  const stored = (await waiting(server)) - before;
  if (errors > 0 || stored !== sent || answered !== sent)
    throw new Error(`ndjson: ${sent} lines sent, ${answered} answered, ${stored} stored, ${errors} with errors`);
  report({
    id: "http/ndjson",
    what: "HTTP, NDJSON stream, 4 connections",
    durability: "always",
    ...measured,
    numbers: {},
  });
};
