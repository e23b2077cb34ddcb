/**
 * Small things that all processes of a service share and that must outlive them: policies, what is known of a
 * dependency, redrive jobs and their audit. A document is a text under a kind and a name. It is changed by compare and
 * set: whoever writes says which revision he has read, so that two writers never overwrite each other unseen.
 *
 * Not for messages, and not for anything written more than some ten times a second.
 *
 * Failures: `store_unavailable` when no answer came (the effect is unknown: read again), `store_refusing` when the
 * store said no and nothing was changed.
 */
export interface DocumentStore {
  read(kind: string, name: string): Promise<StoredDocument | undefined>;

  /** Documents of a kind whose names begin with `prefix` and come after `after`, by name in order of their bytes. */
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
