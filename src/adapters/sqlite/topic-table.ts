import type { DatabaseSync, StatementSync } from "node:sqlite";

/** Topics that were once seen to exist. */
export class TopicTable {
  readonly #known: StatementSync;
  readonly #remember: StatementSync;

  constructor(db: DatabaseSync) {
    this.#known = db.prepare("SELECT name FROM topic ORDER BY name");
    this.#remember = db.prepare("INSERT OR IGNORE INTO topic (name) VALUES (?)");
  }

  known(): string[] {
    return this.#known.all().map(({ name }) => name as string);
  }

  remember(topic: string): void {
    this.#remember.run(topic);
  }
}
