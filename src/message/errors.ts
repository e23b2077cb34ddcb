/**
 * Every error that leaves the system, in one table: its stable code, the HTTP status it maps to, and what the reader
 * should do. Programs decide by `code`, never by message text; the API reference prints this table.
 */

export const errorTable = {
  // What the caller sent: nothing was stored, change the input.
  invalid_json: { status: 400, title: "The request body is not valid JSON." },
  invalid_request: { status: 400, title: "The request does not have the right shape." },
  invalid_field: { status: 400, title: "A field has a value that cannot be accepted." },
  invalid_utf8: { status: 400, title: "Text that is not valid UTF-8." },
  unknown_field: { status: 400, title: "A field that this API does not have." },
  missing_field: { status: 400, title: "A field that must be there is missing." },
  invalid_id: { status: 400, title: "The id is not a UUID." },
  invalid_topic: { status: 400, title: "The topic name is not one that RocketMQ allows." },
  reserved_property: { status: 400, title: "A property name that RocketMQ or Escapement keeps for itself." },
  too_many_properties: { status: 400, title: "More properties than a RocketMQ message can carry." },
  properties_too_large: { status: 400, title: "Properties, tag and keys together are larger than RocketMQ allows." },
  empty_body: { status: 400, title: "RocketMQ refuses messages without a body." },
  invalid_envelope: { status: 400, title: "What was handed over by a consumer cannot be read." },
  time_missing: { status: 400, title: "Neither deliverAt nor delay was given." },
  time_ambiguous: { status: 400, title: "Both deliverAt and delay were given." },
  invalid_time: { status: 400, title: "The time is not in a form that is understood." },
  delay_too_long: { status: 400, title: "The time is further away than allowed." },
  expires_before_due: { status: 400, title: "The message would expire before it is due." },
  topic_not_found: { status: 422, title: "The target topic does not exist." },
  topic_type_mismatch: { status: 422, title: "The target topic exists with a type that refuses this kind of message." },
  group_not_ready: {
    status: 422,
    title: "The consumer group or its retry topic does not exist, and cannot be created from here.",
  },
  body_too_large: { status: 413, title: "The message body is larger than RocketMQ allows." },
  request_too_large: { status: 413, title: "The request is larger than this server reads." },
  unsupported_media_type: { status: 415, title: "The content type or encoding is not one that this API reads." },
  too_many_items: { status: 413, title: "More items than one batch may hold." },
  // What the message's state does not allow.
  not_found: { status: 404, title: "No message with that id or key." },
  policy_not_found: { status: 404, title: "No retry policy with that name or version." },
  binding_not_found: { status: 404, title: "No retry policy is bound there." },
  redrive_not_found: { status: 404, title: "No redrive with that id." },
  route_not_found: { status: 404, title: "No such route." },
  too_late: { status: 409, title: "The message is being sent or has ended." },
  // What other policies and bindings do not allow.
  policy_changed: { status: 409, title: "The retry policy has another version by now." },
  policy_preset: { status: 409, title: "That name belongs to a policy that comes with the program." },
  policy_bound: { status: 409, title: "The retry policy is bound; its bindings have to go first, or with it." },
  policy_circle: { status: 409, title: "Dead messages would be sent in a circle." },
  too_many_policies: { status: 409, title: "No room for one more retry policy or binding." },
  // Load and trouble outside: try again.
  overloaded: { status: 429, title: "More requests than can be stored at the moment." },
  store_unavailable: { status: 503, title: "The store does not answer; whether the request took effect is unknown." },
  store_refusing: {
    status: 503,
    title: "The store answers but must not be written to at the moment; nothing was stored.",
  },
  store_full: { status: 503, title: "The store is out of memory or disk; nothing was stored." },
  topic_unverified: {
    status: 503,
    title: "The broker does not answer, so the topic could not be checked; nothing was stored.",
  },
  shutting_down: { status: 503, title: "This process is stopping; another one will answer." },
  request_timeout: { status: 408, title: "The request was not received in time." },
  // Between processes.
  fenced: { status: 503, title: "Another process owns the shard." },
  // Configuration.
  invalid_config: { status: 500, title: "The configuration has mistakes." },
  // A bug of ours.
  internal: { status: 500, title: "An unexpected error; it was logged." },
} as const satisfies Record<string, { readonly status: number; readonly title: string }>;

export type ErrorCode = keyof typeof errorTable;

export type ErrorDetails = {
  /** The field at fault, as a JSON path such as `properties.color`. */
  readonly field?: string;
  /** For load errors: when another try makes sense. */
  readonly retryAfterMs?: number;
  readonly cause?: unknown;
};

/** The only error class that rooms throw on purpose. `message` says what to change, in one sentence. */
export class EscapementError extends Error {
  override readonly name = "EscapementError";
  readonly code: ErrorCode;
  readonly field: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.field = details.field;
    this.retryAfterMs = details.retryAfterMs;
  }

  get status(): number {
    return errorTable[this.code].status;
  }
}

export const isEscapementError = (error: unknown, code?: ErrorCode): error is EscapementError =>
  error instanceof EscapementError && (code === undefined || error.code === code);
