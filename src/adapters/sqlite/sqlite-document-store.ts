import {
  assertDocument,
  assertListing,
  type DocumentStore,
  type StoredDocument,
  type WriteResult,
} from "../../documents/document-store.port.ts";
import type { Desk } from "./desk.ts";

/**
 * Documents in the file of the delay store, since only one connection can have that open: they share its thread, its
 * commits and its fate, and are closed with it.
 */
export class SqliteDocumentStore implements DocumentStore {
  readonly #desk: Desk;

  constructor(desk: Desk) {
    this.#desk = desk;
  }

  async read(kind: string, name: string): Promise<StoredDocument | undefined> {
    assertDocument(kind, name);
    return this.#desk.ask({ verb: "readDocument", kind, name }, (found) => found);
  }

  async list(
    kind: string,
    { prefix = "", after = "", limit }: { readonly prefix?: string; readonly after?: string; readonly limit: number },
  ): Promise<readonly StoredDocument[]> {
    assertListing(kind, limit);
    const found: StoredDocument[] = [];
    for (;;) {
      const behind = found.at(-1)?.name ?? after;
      const request = { verb: "listDocuments", kind, prefix, after: behind, limit: limit - found.length } as const;
      const { documents, isWhole } = await this.#desk.ask(request, (page) => page);
      found.push(...documents);
      if (isWhole || found.length === limit) return found;
    }
  }

  async write(kind: string, name: string, body: string, expected: number): Promise<WriteResult> {
    assertDocument(kind, name, body);
    return this.#desk.ask({ verb: "writeDocument", kind, name, body, expected }, (result) => result);
  }

  async remove(kind: string, name: string, expected: number): Promise<boolean> {
    assertDocument(kind, name);
    return this.#desk.ask({ verb: "removeDocument", kind, name, expected }, (removed) => removed);
  }

  /** The file belongs to the delay store and is closed there. */
  async close(): Promise<void> {}
}
