import {
  assertDocument,
  assertListing,
  type DocumentStore,
  type StoredDocument,
  type WriteResult,
} from "../../documents/document-store.port.ts";

/** Documents for the life of the process, shared by all who hold this object; the port's shortest reading. */
export class MemoryDocumentStore implements DocumentStore {
  readonly #kinds = new Map<string, Map<string, StoredDocument>>();

  async read(kind: string, name: string): Promise<StoredDocument | undefined> {
    assertDocument(kind, name);
    return this.#of(kind).get(name);
  }

  async list(
    kind: string,
    { prefix = "", after = "", limit }: { readonly prefix?: string; readonly after?: string; readonly limit: number },
  ): Promise<readonly StoredDocument[]> {
    assertListing(kind, limit);
    // Names are ASCII, of which the order of characters is that of bytes.
    return [...this.#of(kind).values()]
      .filter(({ name }) => name.startsWith(prefix) && name > after)
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .slice(0, limit);
  }

  async write(kind: string, name: string, body: string, expected: number): Promise<WriteResult> {
    assertDocument(kind, name, body);
    const documents = this.#of(kind);
    const current = documents.get(name);
    if ((current?.revision ?? 0) !== expected) return { outcome: "conflict", current };
    const revision = expected + 1;
    documents.set(name, { name, revision, body });
    return { outcome: "written", revision };
  }

  async remove(kind: string, name: string, expected: number): Promise<boolean> {
    assertDocument(kind, name);
    const documents = this.#of(kind);
    return documents.get(name)?.revision === expected && documents.delete(name);
  }

  /** Nothing to close: whoever else holds it goes on. */
  async close(): Promise<void> {}

  #of(kind: string): Map<string, StoredDocument> {
    let documents = this.#kinds.get(kind);
    if (documents === undefined) {
      documents = new Map();
      this.#kinds.set(kind, documents);
    }
    return documents;
  }
}
