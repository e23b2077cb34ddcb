import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type {
  BatchItemReply,
  HealthReply,
  MessageDetails,
  MessageState,
  Problem,
  RescheduleRequest,
  ScheduleRequest,
  StatsReply,
} from "../../wire/http.ts";

/**
 * A real HTTP server for tests of the client and the CLI. It speaks the wire contract over a map in memory and
 * misbehaves on request: each entry of `script` is what happens to the next request, and when the script is empty it
 * behaves. It is not a delay server: nothing is ever sent, and it checks just enough to refuse a few inputs.
 */
export type Act =
  /** The connection is cut before the request has any effect. */
  | { readonly act: "cut" }
  /** The request takes effect, then the connection is cut without a reply. */
  | { readonly act: "swallow" }
  /** The request takes effect, the reply comes late. */
  | { readonly act: "late"; readonly ms: number }
  /** The request takes effect and its reply ends in the middle. */
  | { readonly act: "half" }
  | { readonly act: "problem"; readonly status: number; readonly code: string; readonly retryAfter?: string }
  | { readonly act: "raw"; readonly status: number; readonly text: string; readonly headers?: Record<string, string> }
  | { readonly act: "behave" };

type Kept = { details: MessageDetails; bodyBase64: string };

export class ScriptedServer {
  readonly messages = new Map<string, Kept>();
  readonly requests: { method: string; path: string; headers: IncomingMessage["headers"]; atMs: number }[] = [];
  readonly schedules: ScheduleRequest[] = [];
  script: Act[] = [];
  /** Topics for which one item is refused as overloaded before it is accepted, with how often. */
  readonly busyTopics = new Map<string, number>();
  /** Above this many items a batch is refused as a whole. */
  batchItemsMax = 1_000;
  /** Remember messages; turned off by tests that count memory. */
  remembering = true;
  batchesNow = 0;
  batchesAtOnce = 0;
  batchDelayMs = 0;
  connections = 0;
  health: HealthReply = { status: "ok", problems: [] };
  stats: StatsReply = {
    node: "node-a",
    time: "2030-01-01T00:00:00.000Z",
    waiting: { total: 3, byTopic: { orders: 2, mail: 1 } },
    parked: { total: 0, byDependency: {} },
    dueNow: 0,
    claimed: 0,
    dead: 0,
    duePerMinute: Array(60).fill(0),
    duePerHour: Array(24).fill(0),
    lateness: { count: 0, p50Ms: 0, p99Ms: 0, maxMs: 0 },
    shards: [],
    members: ["node-a"],
  };
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      this.#handle(request, response).catch((error) => response.destroy(error));
    });
    this.#server.on("connection", () => this.connections++);
  }

  /** On a port of its own, or on the given one. */
  static async start(port = 0): Promise<ScriptedServer> {
    const server = new ScriptedServer();
    await new Promise<void>((resolve) => server.#server.listen(port, "127.0.0.1", resolve));
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  setState(id: string, state: MessageState, reason?: MessageDetails["reason"]): void {
    const kept = this.messages.get(id)!;
    kept.details = { ...kept.details, state, ...(reason === undefined ? {} : { reason }) };
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { method = "", url: path = "" } = request;
    this.requests.push({ method, path, headers: request.headers, atMs: performance.now() });
    const act = this.script.shift() ?? { act: "behave" };
    if (act.act === "cut") {
      request.socket.destroy();
      return;
    }
    if (act.act === "problem") {
      const headers = act.retryAfter === undefined ? {} : { "retry-after": act.retryAfter };
      send(response, act.status, problem(act.status, act.code, "scripted"), headers);
      return;
    }
    if (act.act === "raw") {
      response.writeHead(act.status, act.headers).end(act.text);
      return;
    }
    const [status, value] = await this.#answer(method, path, Buffer.concat(chunks).toString());
    if (act.act === "swallow") {
      request.socket.destroy();
      return;
    }
    if (act.act === "half") {
      const text = JSON.stringify(value);
      response.writeHead(status, { "content-type": "application/json", "content-length": text.length });
      response.write(text.slice(0, text.length / 2));
      setTimeout(() => request.socket.destroy(), 20);
      return;
    }
    if (act.act === "late") await new Promise((resolve) => setTimeout(resolve, act.ms));
    send(response, status, value);
  }

  async #answer(method: string, path: string, body: string): Promise<[number, unknown]> {
    const url = new URL(path, "http://server");
    if (url.pathname === "/v1/stats") return [200, this.stats];
    if (url.pathname === "/health/ready") return [this.health.status === "ok" ? 200 : 503, this.health];
    if (method === "POST" && url.pathname === "/v1/messages/batch") return this.#batch(JSON.parse(body));
    if (method === "POST" && url.pathname === "/v1/messages") {
      const result = this.#schedule(JSON.parse(body), 0);
      return "message" in result ? [200, result.message] : [result.error.status, result.error];
    }
    const kept = this.#find(url);
    if (kept === undefined) return [404, problem(404, "not_found", "No message with that id or key.")];
    if (method === "GET") {
      const withBody = url.searchParams.get("body") === "true";
      return [200, withBody ? { ...kept.details, bodyBase64: kept.bodyBase64 } : kept.details];
    }
    const { state } = kept.details;
    if (state !== "scheduled" && !(method === "DELETE" && state === "canceled")) {
      return [409, problem(409, "too_late", `The message is ${state}.`)];
    }
    if (method === "DELETE") kept.details = { ...kept.details, state: "canceled" };
    else this.#change(kept, JSON.parse(body));
    return [200, reply(kept, false)];
  }

  async #batch(items: ScheduleRequest[]): Promise<[number, unknown]> {
    if (items.length > this.batchItemsMax) return [413, problem(413, "too_many_items", "Send fewer items.")];
    this.batchesAtOnce = Math.max(this.batchesAtOnce, ++this.batchesNow);
    if (this.batchDelayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.batchDelayMs));
    const results = items.map((item, index) => this.#schedule(item, index));
    this.batchesNow--;
    const rejected = results.filter((result) => "error" in result).length;
    return [200, { accepted: items.length - rejected, rejected, results }];
  }

  #schedule(item: ScheduleRequest, index: number): BatchItemReply {
    if (typeof item?.topic !== "string")
      return { index, error: problem(400, "missing_field", "Name a topic.", "topic") };
    if (item.topic === "nope") return { index, error: problem(422, "topic_not_found", "Topic nope does not exist.") };
    const busy = this.busyTopics.get(item.topic) ?? 0;
    if (busy > 0) {
      this.busyTopics.set(item.topic, busy - 1);
      return { index, error: problem(429, "overloaded", "Try again.") };
    }
    if (!this.remembering) {
      return { index, message: { id: "x", state: "scheduled", deliverAt: "", attempt: 0, deduplicated: false } };
    }
    this.schedules.push(item);
    const id = item.key === undefined ? randomUUID() : `key:${item.messageGroup ?? ""}:${item.key}`;
    const known = this.messages.get(id);
    if (known !== undefined) return { index, message: reply(known, true) };
    const { body, bodyBase64 = Buffer.from(body ?? "").toString("base64"), deliverAt, delay, ...rest } = item;
    const deliverAtText = typeof deliverAt === "string" ? deliverAt : new Date(deliverAt ?? Date.now()).toISOString();
    const kept: Kept = {
      details: {
        id,
        state: "scheduled",
        deliverAt: deliverAtText,
        attempt: 0,
        topic: rest.topic,
        ...(rest.key === undefined ? {} : { key: rest.key }),
        ...(rest.tag === undefined ? {} : { tag: rest.tag }),
        ...(rest.properties === undefined ? {} : { properties: rest.properties }),
        bodyBytes: Buffer.byteLength(bodyBase64, "base64"),
      },
      bodyBase64,
    };
    this.messages.set(id, kept);
    return { index, message: reply(kept, false) };
  }

  #change(kept: Kept, change: RescheduleRequest): void {
    if (typeof change.deliverAt === "string") kept.details = { ...kept.details, deliverAt: change.deliverAt };
    if (change.body !== undefined) kept.bodyBase64 = Buffer.from(change.body).toString("base64");
  }

  #find(url: URL): Kept | undefined {
    const key = url.searchParams.get("key");
    if (key !== null) return this.messages.get(`key:${url.searchParams.get("messageGroup") ?? ""}:${key}`);
    return this.messages.get(decodeURIComponent(url.pathname.slice("/v1/messages/".length)));
  }
}

const reply = ({ details }: Kept, deduplicated: boolean) => ({
  id: details.id,
  state: details.state,
  deliverAt: details.deliverAt,
  attempt: details.attempt,
  deduplicated,
});

const problem = (status: number, code: string, detail: string, field?: string): Problem => ({
  type: `https://example.org/errors/${code}`,
  title: code,
  status,
  code,
  detail,
  ...(field === undefined ? {} : { field }),
});

const send = (response: ServerResponse, status: number, value: unknown, headers: Record<string, string> = {}): void => {
  const type = status < 400 ? "application/json" : "application/problem+json";
  response.writeHead(status, { "content-type": type, ...headers }).end(JSON.stringify(value));
};
