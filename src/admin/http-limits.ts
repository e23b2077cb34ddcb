/** What one HTTP peer may ask of this process. Each limit stands with its reason; tests make them small. */
export type HttpLimits = {
  readonly requestBytesMax: number;
  readonly batchBytesMax: number;
  readonly batchItemsMax: number;
  readonly lineBytesMax: number;
  readonly linesPerCall: number;
  readonly headerBytesMax: number;
  readonly receiveTimeoutMs: number;
  readonly streamTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly keepAliveTimeoutMs: number;
  readonly closeGraceMs: number;
  readonly connectionsMax: number;
  readonly inFlightRequestsMax: number;
  readonly inFlightBytesMax: number;
};

const mebibyte = 1024 * 1024;

export const defaultHttpLimits: HttpLimits = {
  /** A body of 4,000,000 B is 5.4 MB in base64 and up to 8 MB as text of which every character is escaped once. */
  requestBytesMax: 8 * mebibyte,
  batchBytesMax: 16 * mebibyte,
  batchItemsMax: 1_000,
  /** One line of NDJSON is one message. */
  lineBytesMax: 8 * mebibyte,
  /** As many as one store call takes; more would only wait behind it. */
  linesPerCall: 200,
  /** A key of 256 bytes percent-encoded is 768; 16 KiB is what most proxies in front allow. */
  headerBytesMax: 16 * 1024,
  /** A request's headers, its body, and each line of a stream must arrive within this: no peer may trickle. */
  receiveTimeoutMs: 30_000,
  /** A streamed upload may take this long in all. */
  streamTimeoutMs: 3_600_000,
  /** A socket on which nothing moves, for example because the peer does not read its reply. */
  idleTimeoutMs: 60_000,
  /** Longer than the 60 s after which common load balancers drop idle connections, so that they close first. */
  keepAliveTimeoutMs: 65_000,
  /** When the process stops, requests under way get this long; streams are cut then. */
  closeGraceMs: 10_000,
  connectionsMax: 8_192,
  /** At 20,000 requests/s and 5 ms each, 100 are in flight; 2,000 means that the store no longer keeps up. */
  inFlightRequestsMax: 2_000,
  /** Request bytes held at a time. Parsing can take several times as much for a moment, one request at a time. */
  inFlightBytesMax: 128 * mebibyte,
};
