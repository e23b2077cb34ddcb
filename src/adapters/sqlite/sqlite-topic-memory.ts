import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { TopicMemory } from "../../ingest/topic-directory.port.ts";
import type { GroupCommit } from "./group-commit.ts";

/** Topics that were once seen to exist, in the store's own file and in its transactions. */
export class SqliteTopicMemory implements TopicMemory {
  readonly #commits: GroupCommit;
  readonly #known: StatementSync;
  readonly #remember: StatementSync;

  constructor(db: DatabaseSync, commits: GroupCommit) {
    this.#commits = commits;
    this.#known = db.prepare("SELECT name FROM topic ORDER BY name");
    this.#remember = db.prepare("INSERT OR IGNORE INTO topic (name) VALUES (?)");
  }

  known(): Promise<readonly string[]> {
    return this.#commits.do({ writes: false, run: () => this.#known.all().map(({ name }) => name as string) });
  }

  async remember(topic: string): Promise<void> {
    await this.#commits.do({ writes: true, run: () => this.#remember.run(topic) });
  }
}
