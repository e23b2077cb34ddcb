import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { StoredDocument, WriteResult } from "../../documents/document-store.port.ts";
import type { DocumentPage } from "./requests.ts";

/** The small shared things, by kind and name. Text is compared by its bytes, which is SQLite's own order. */
export class DocumentTable {
  readonly #read: StatementSync;
  readonly #list: StatementSync;
  readonly #insert: StatementSync;
  readonly #update: StatementSync;
  readonly #remove: StatementSync;

  constructor(db: DatabaseSync) {
    this.#read = db.prepare("SELECT name, revision, body FROM document WHERE kind = ? AND name = ?");
    this.#list = db.prepare(
      "SELECT name, revision, body FROM document WHERE kind = ? AND name > ? AND name >= ? AND name < ? ORDER BY name LIMIT ?",
    );
    this.#insert = db.prepare("INSERT OR IGNORE INTO document (kind, name, revision, body) VALUES (?, ?, 1, ?)");
    this.#update = db.prepare(
      "UPDATE document SET revision = revision + 1, body = ? WHERE kind = ? AND name = ? AND revision = ?",
    );
    this.#remove = db.prepare("DELETE FROM document WHERE kind = ? AND name = ? AND revision = ?");
  }

  read(kind: string, name: string): StoredDocument | undefined {
    const row = this.#read.get(kind, name);
    return row === undefined ? undefined : documentOf(row);
  }

  page(kind: string, prefix: string, after: string, limit: number): DocumentPage {
    const documents: StoredDocument[] = [];
    let bytes = 0;
    // Behind every name that begins with the prefix comes the prefix and a character that no name has.
    for (const row of this.#list.iterate(kind, after, prefix, `${prefix}\x7f`, limit)) {
      documents.push(documentOf(row));
      bytes += (row.body as string).length;
      if (bytes > pageLengthMax) return { documents, isWhole: false };
    }
    return { documents, isWhole: true };
  }

  write(kind: string, name: string, body: string, expected: number): WriteResult {
    const { changes } =
      expected === 0 ? this.#insert.run(kind, name, body) : this.#update.run(body, kind, name, expected);
    if (changes === 1) return { outcome: "written", revision: expected + 1 };
    return { outcome: "conflict", current: this.read(kind, name) };
  }

  remove(kind: string, name: string, expected: number): boolean {
    return this.#remove.run(kind, name, expected).changes === 1;
  }
}

/** A page holds up what else the store is asked: some milliseconds' work. */
const pageLengthMax = 2_000_000;

const documentOf = ({ name, revision, body }: Record<string, unknown>): StoredDocument => ({
  name: name as string,
  revision: revision as number,
  body: body as string,
});
