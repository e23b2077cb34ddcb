import { MemoryDelayStore } from "../adapters/memory/memory-delay-store.ts";
import { MemoryDocumentStore } from "../adapters/memory/memory-document-store.ts";
import type { DocumentStore } from "../documents/document-store.port.ts";
import { nameBasedId, shardOf } from "../message/id.ts";
import type { DelayedMessage } from "../message/message.ts";
import { epochMs } from "../message/time.ts";
import { silentLog } from "../runtime/log.ts";
import type { DependencyReport } from "../wire/consumer-sync.ts";
import { BayBook } from "./bay-book.ts";
import { DependencyBoard } from "./board.ts";
import { ParkedCount } from "./parked-count.ts";
import { Releaser } from "./releaser.ts";

/** For tests of this room: several processes of the service on one clock, one delay store and one store of documents. */
export class TestFleet {
  nowMs = Date.UTC(2027, 0, 1);
  readonly documents: MemoryDocumentStore;
  readonly writes: string[] = [];
  documentsAway = false;
  readonly store = new MemoryDelayStore({ shardCount: 8, clockMs: () => this.nowMs });
  readonly clock = { nowMs: () => epochMs(this.nowMs), monotonicMs: () => this.nowMs, trusted: true };
  readonly members: string[] = [];
  readonly nodes: TestNode[] = [];
  readonly released: { readonly node: string; readonly dueMs: number }[] = [];
  #parked = 0;

  constructor(nodes: number) {
    this.documents = new MemoryDocumentStore();
    for (let i = 0; i < nodes; i++) {
      const node = `node-${i}`;
      this.members.push(node);
      this.nodes.push(new TestNode(this, node));
    }
  }

  /** Each node sees the documents through this: counted, and away when told so. */
  get watchedDocuments(): DocumentStore {
    const { documents } = this;
    const here = (): void => {
      if (this.documentsAway) throw new Error("the documents are away");
    };
    return {
      read: async (kind, name) => {
        here();
        return documents.read(kind, name);
      },
      list: async (kind, options) => {
        here();
        return documents.list(kind, options);
      },
      write: async (kind, name, body, expected) => {
        here();
        this.writes.push(`${kind}/${name}`);
        return documents.write(kind, name, body, expected);
      },
      remove: async (kind, name, expected) => {
        here();
        return documents.remove(kind, name, expected);
      },
      close: async () => {},
    };
  }

  /** Lets time pass in steps of a quarter of a second, as the loops do; each second is told. */
  async pass(seconds: number, eachSecond: (second: number) => void | Promise<void> = () => {}): Promise<void> {
    for (let quarter = 0; quarter < seconds * 4; quarter++) {
      if (quarter % 4 === 0) await eachSecond(quarter / 4);
      this.nowMs += 250;
      for (const { board, releaser, node } of this.nodes) {
        if (!this.members.includes(node)) continue;
        if (quarter % 2 === 0) await board.runOnce().catch(() => {});
        await releaser.runOnce(never).catch(() => {});
      }
    }
  }

  async park(key: string, count: number): Promise<DelayedMessage[]> {
    const deliverAtMs = await this.nodes[0]!.bays.placeFor(key, epochMs(this.nowMs));
    const messages: DelayedMessage[] = [];
    for (let i = 0; i < count; i++) {
      const message: DelayedMessage = {
        id: nameBasedId(["test", String(this.#parked++)]),
        tenant: "default",
        topic: "ESC_RETRY_g",
        keys: [],
        properties: new Map(),
        body: Buffer.from("body"),
        deliverAtMs,
        acceptedAtMs: epochMs(this.nowMs),
        attempt: 0,
      };
      await this.store.schedule(shardOf(message.id, this.store.shardCount), [{ message }]);
      messages.push(message);
    }
    return messages;
  }
}

export class TestNode {
  readonly node: string;
  readonly board: DependencyBoard;
  readonly bays: BayBook;
  readonly releaser: Releaser;
  readonly parked: ParkedCount;

  constructor(fleet: TestFleet, node: string) {
    const { store, clock } = fleet;
    const documents = fleet.watchedDocuments;
    this.node = node;
    this.board = new DependencyBoard({ documents, clock, log: silentLog, node, members: () => fleet.members });
    this.bays = new BayBook(documents);
    this.parked = new ParkedCount(store, this.bays);
    this.releaser = new Releaser({
      store,
      clock,
      board: this.board,
      bays: this.bays,
      owned: () => {
        const shards = Array.from({ length: store.shardCount }, (_, shard) => shard);
        return shards.filter((shard) => fleet.members[shard % fleet.members.length] === node);
      },
      offer: (_id, _offset, _lane, _shard, dueMs) => fleet.released.push({ node, dueMs }) > 0,
      log: silentLog,
    });
  }
}

export const report = (key: string, part: Partial<DependencyReport> = {}): DependencyReport => ({
  key,
  succeeded: 0,
  failed: 0,
  retries: 0,
  parked: 0,
  deferred: 0,
  ...part,
});

const never = new AbortController().signal;
