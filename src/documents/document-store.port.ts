import assert from "node:assert/strict";

/**
 * Small things that all processes of a service share and that must outlive them: policies, what is known of a
 * dependency, redrive jobs and their audit. A document is a text under a kind and a name. It is changed by compare and
 * set: whoever writes says which revision he has read, so that two writers never overwrite each other unseen.
 *
 * Not for messages, and not for anything written more than some ten times a second.
 *
 * Failures: `store_unavailable` when no answer came (the effect is unknown: read again), `store_refusing` and
 * `store_full` when the store said no and nothing was changed. Names and sizes beyond `documentLimits` are a bug of the
 * caller, who checks what users give.
 */
export interface DocumentStore {
  read(kind: string, name: string): Promise<StoredDocument | undefined>;

  /**
   * Documents of a kind whose names begin with `prefix` and come after `after`, by name in order of their bytes. Fewer
   * than `limit` only when there are no more. Not a snapshot: what changes meanwhile may be in it or not.
   */
  list(
    kind: string,
    options: { readonly prefix?: string; readonly after?: string; readonly limit: number },
  ): Promise<readonly StoredDocument[]>;

  /** Writes where the revision is `expected`; 0 means that there must be none yet. Durable when it returns. */
  write(kind: string, name: string, body: string, expected: number): Promise<WriteResult>;

  /** Removes where the revision is `expected`; answers whether it did. A later document of that name begins at 1. */
  remove(kind: string, name: string, expected: number): Promise<boolean>;

  close(): Promise<void>;
}

export type StoredDocument = { readonly name: string; readonly revision: number; readonly body: string };

export type WriteResult =
  | { readonly outcome: "written"; readonly revision: number }
  | { readonly outcome: "conflict"; readonly current: StoredDocument | undefined };

export const documentLimits = {
  kindPattern: /^[a-z][a-z-]{0,31}$/,
  /** Printable ASCII, so that every store orders names alike. */
  namePattern: /^[\x21-\x7e]{1,255}$/,
  bodyBytesMax: 256 * 1024,
  listMax: 1_000,
} as const;

/** What every store holds its callers to. */
export const assertDocument = (kind: string, name: string, body = ""): void => {
  assert(documentLimits.kindPattern.test(kind), `${kind} is no kind of documents`);
  assert(documentLimits.namePattern.test(name), `${JSON.stringify(name)} is no name of a document`);
  const bytes = Buffer.byteLength(body);
  assert(bytes <= documentLimits.bodyBytesMax, `${bytes} bytes, ${documentLimits.bodyBytesMax} allowed`);
};

export const assertListing = (kind: string, limit: number): void => {
  assert(documentLimits.kindPattern.test(kind), `${kind} is no kind of documents`);
  assert(limit >= 1 && limit <= documentLimits.listMax, `a list of ${limit}, ${documentLimits.listMax} allowed`);
};
