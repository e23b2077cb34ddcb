import type {
  DeadAudit,
  DeadDetails,
  DeadGroupsReply,
  DeadList,
  DiscardReply,
  DiscardRequest,
  RedriveDryRunReply,
  RedriveList,
  RedriveOutcomes,
  RedriveReply,
  RedriveRequest,
} from "../wire/dead.ts";
import type { Call, Transport } from "./transport.ts";

/** The dead, and bringing them back: `client.dead`. Codes and retries as with the rest of the client. */

/** Which of the dead, as a query; instants are RFC 3339 text or epoch milliseconds. */
export type DeadQuery = {
  topic?: string;
  group?: string;
  fingerprint?: string;
  code?: string;
  from?: string | number;
  until?: string | number;
  text?: string;
  cursor?: string;
};

export type RedriveCommand = "pause" | "resume" | "cancel";

export class DeadClient {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** A page. `complete` is false while there is more to look at; then go on with `cursor`, also after an empty page. */
  list(query: DeadQuery & { limit?: number } = {}): Promise<DeadList> {
    return this.#get("/v1/dead", query);
  }

  /** Counts by what killed them; of what one request looks at, as `list`. */
  groups(query: DeadQuery = {}): Promise<DeadGroupsReply> {
    return this.#get("/v1/dead/groups", query);
  }

  get(id: string, options: { body?: boolean } = {}): Promise<DeadDetails> {
    return this.#get(`/v1/dead/${encodeURIComponent(id)}`, options.body ? { body: "true" } : {});
  }

  /** Removes for good, in bounded pieces: while it is not `complete`, call again with its cursor. */
  discard(request: DiscardRequest): Promise<DiscardReply> {
    // A second copy finds less to remove, and what it counts is only that.
    return this.#post("/v1/dead/discard", request, true);
  }

  audit(query: { cursor?: string; limit?: number } = {}): Promise<DeadAudit> {
    return this.#get("/v1/dead/audit", query);
  }

  /** Begins a redrive; with `dryRun` only tells what it would do. Two of one selection do not send anything twice. */
  redrive(request: RedriveRequest): Promise<RedriveReply | RedriveDryRunReply> {
    return this.#post("/v1/redrives", request, request.dryRun === true);
  }

  redrives(query: { cursor?: string; limit?: number } = {}): Promise<RedriveList> {
    return this.#get("/v1/redrives", query);
  }

  redriveOf(id: string): Promise<RedriveReply> {
    return this.#get(`/v1/redrives/${encodeURIComponent(id)}`, {});
  }

  command(id: string, command: RedriveCommand, who: { by?: string; reason?: string } = {}): Promise<RedriveReply> {
    return this.#post(`/v1/redrives/${encodeURIComponent(id)}/${command}`, who, true);
  }

  outcomes(id: string, query: { cursor?: string; outcome?: string } = {}): Promise<RedriveOutcomes> {
    return this.#get(`/v1/redrives/${encodeURIComponent(id)}/outcomes`, query);
  }

  #get<T>(path: string, query: Readonly<Record<string, string | number | undefined>>): Promise<T> {
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    const text = new URLSearchParams(given.map(([name, value]): [string, string] => [name, String(value)])).toString();
    return this.#call({ method: "GET", path: text === "" ? path : `${path}?${text}`, repeatable: true });
  }

  #post<T>(path: string, body: object, repeatable: boolean): Promise<T> {
    return this.#call({ method: "POST", path, body: JSON.stringify(body), repeatable });
  }

  async #call<T>(call: Call): Promise<T> {
    return (await this.#transport.call(call)).value as T;
  }
}
