/**
 * The ingest topic, as those see it who hand messages over. What was answered with `ok` is durable, whether the delay
 * server runs or not.
 */
export interface HandOff {
  /** Sends in one call and answers for each in their order. Never rejects. */
  send(messages: readonly HandOverMessage[]): Promise<readonly HandOverResult[]>;
  close(): Promise<void>;
}

export type HandOverMessage = {
  readonly tag?: string;
  readonly keys: readonly string[];
  readonly properties: ReadonlyMap<string, string>;
  readonly body: Buffer;
};

export type HandOverResult =
  | { readonly ok: true }
  /** It may have been stored all the same; handing it over once more is one message. */
  | { readonly ok: false; readonly code: string; readonly detail: string };
