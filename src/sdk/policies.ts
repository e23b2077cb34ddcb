import type {
  DeletePolicyReply,
  PolicyListReply,
  PolicyReply,
  PolicyVersionsReply,
  PutPolicyReply,
  PutPolicyRequest,
  RetryBinding,
  RetryBindingPlace,
  RetryBindingsReply,
} from "../wire/http.ts";
import type { Transport } from "./transport.ts";

/**
 * Retry policies that are stored on the server, and what they are bound to. Everything here may be repeated: writing
 * what is there already changes nothing.
 */
export class PolicyCalls {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  list(): Promise<PolicyListReply> {
    return this.#call("GET", "/v1/retry-policies");
  }

  /** By `name` the newest version, by `name@version` any that ever held. */
  get(reference: string): Promise<PolicyReply> {
    return this.#call("GET", pathOf(reference));
  }

  versions(name: string, before?: number): Promise<PolicyVersionsReply> {
    return this.#call("GET", `${pathOf(name)}/versions${queryOf({ before })}`);
  }

  /** Makes a new version, unless it is so already. */
  put(name: string, request: PutPolicyRequest): Promise<PutPolicyReply> {
    return this.#call("PUT", pathOf(name), request);
  }

  delete(
    name: string,
    options: { ifVersion?: number; withBindings?: boolean; by?: string; why?: string } = {},
  ): Promise<DeletePolicyReply> {
    return this.#call("DELETE", pathOf(name) + queryOf(options));
  }

  bindings(): Promise<RetryBindingsReply> {
    return this.#call("GET", "/v1/retry-bindings");
  }

  /** Instead of what was bound to the same topic, group and tag. */
  bind(binding: RetryBinding): Promise<RetryBindingsReply> {
    return this.#call("PUT", "/v1/retry-bindings", binding);
  }

  unbind(place: RetryBindingPlace): Promise<RetryBindingsReply> {
    return this.#call("DELETE", `/v1/retry-bindings${queryOf(place)}`);
  }

  async #call<T>(method: "GET" | "PUT" | "DELETE", path: string, body?: object): Promise<T> {
    const call = { method, path, repeatable: true, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
    return (await this.#transport.call(call)).value as T;
  }
}

const pathOf = (reference: string): string => `/v1/retry-policies/${encodeURIComponent(reference)}`;

const queryOf = (fields: Readonly<Record<string, string | number | boolean | undefined>>): string => {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) query.set(name, String(value));
  return query.size === 0 ? "" : `?${query}`;
};
