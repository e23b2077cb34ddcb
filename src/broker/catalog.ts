import { code } from "../protocol/messaging-service.ts";
import type { GroupInfo, TopicInfo } from "./broker.port.ts";
import { BrokerError } from "./broker-error.ts";
import { checkGroupName, checkTopicName, deadLetterTopic, discardedTopic, halfTopic } from "./names.ts";

/**
 * Which topics and consumer groups there are. Small, kept whole in memory and in one JSON text, which is written anew
 * at each change; changes that come while one is being written go out together with the next.
 *
 * A topic that was made by its first use is usable before it is on disk: messages that lie in a topic which the
 * catalog does not know bring it back at the next start.
 */
export type CatalogFile = {
  load(): Promise<string | undefined>;
  /** Replaces the whole, durably. */
  save(text: string): Promise<void>;
};

export type CatalogOptions = {
  readonly file: CatalogFile;
  /** Topics and groups come into being by being used. */
  readonly autoCreate: boolean;
};

/** RocketMQ's own number for topics made by an administrator; parallel readers need not more on one machine. */
export const queuesDefault = 4;
export const queuesMax = 1_024;
/** One delivery and 16 retries, as RocketMQ. */
export const attemptsMaxDefault = 17;
/** A program that makes up names must not fill the disk. */
const topicsMax = 10_000;
const groupsMax = 10_000;
const version = 1;

export class Catalog {
  readonly #options: CatalogOptions;
  readonly #topics = new Map<string, TopicInfo>();
  readonly #groups = new Map<string, GroupInfo>();
  #saving: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  private constructor(options: CatalogOptions) {
    this.#options = options;
  }

  static async open(options: CatalogOptions): Promise<Catalog> {
    const catalog = new Catalog(options);
    const text = await options.file.load();
    if (text !== undefined) catalog.#read(text);
    return catalog;
  }

  topic(name: string): TopicInfo {
    const known = this.#topics.get(name);
    if (known !== undefined) return known;
    checkTopicName(name);
    if (!this.#options.autoCreate) throw noTopic(name);
    this.#assertRoom();
    return this.#addTopic({ name, type: "MIXED", queues: queuesDefault });
  }

  group(name: string): GroupInfo {
    const known = this.#groups.get(name);
    if (known !== undefined) return known;
    checkGroupName(name);
    if (this.#groups.size >= groupsMax) {
      throw new BrokerError(code.forbidden, `there are ${groupsMax} consumer groups already; delete some`);
    }
    // The real broker makes groups by their first use, too, whatever it does with topics.
    const group: GroupInfo = { name, attemptsMax: attemptsMaxDefault, orderly: false };
    this.#groups.set(name, group);
    this.#saveSoon();
    return group;
  }

  /** Topics that messages were found in although nobody remembers making them, and the broker's own. */
  adopt(name: string, queues: number): void {
    const known = this.#topics.get(name);
    if (known === undefined) this.#addTopic({ name, type: "MIXED", queues: Math.max(queues, queuesDefault) });
    else if (known.queues < queues) this.#addTopic({ ...known, queues });
  }

  /** The topic for a group's dead letters; one queue, as in RocketMQ. */
  deadLetters(group: string): TopicInfo {
    const name = deadLetterTopic(group);
    return this.#topics.get(name) ?? this.#addTopic({ name, type: "NORMAL", queues: 1 });
  }

  /** For the broker's own use: no rules about names, nothing to delete. */
  own(name: string): TopicInfo {
    return this.#topics.get(name) ?? this.#addTopic({ name, type: "NORMAL", queues: 1 });
  }

  /** A topic that exists keeps its queues: fewer would hide messages, so their number only grows. */
  async createTopic(topic: TopicInfo): Promise<void> {
    checkTopicName(topic.name);
    const { queues } = topic;
    if (!Number.isInteger(queues) || queues < 1 || queues > queuesMax) {
      throw new BrokerError(code.badRequest, `a topic has 1 to ${queuesMax} queues, not ${queues}`);
    }
    const known = this.#topics.get(topic.name);
    if (known === undefined) this.#assertRoom();
    this.#addTopic({ ...topic, queues: Math.max(queues, known?.queues ?? 0) });
    await this.saved();
  }

  async createGroup(group: GroupInfo): Promise<void> {
    checkGroupName(group.name);
    if (!Number.isInteger(group.attemptsMax) || group.attemptsMax < 1) {
      throw new BrokerError(code.badRequest, `attempts must be a whole number from 1 on, not ${group.attemptsMax}`);
    }
    this.#groups.set(group.name, group);
    await this.#saveSoon();
  }

  async deleteTopic(name: string): Promise<void> {
    this.mustKnow(name);
    this.#topics.delete(name);
    await this.#saveSoon();
  }

  async deleteGroup(name: string): Promise<void> {
    checkGroupName(name);
    if (this.#groups.delete(name)) await this.#saveSoon();
  }

  /** @throws BrokerError topicNotFound, or illegalTopic for one of the broker's own */
  mustKnow(name: string): void {
    checkTopicName(name);
    if (!this.#topics.has(name)) throw noTopic(name);
  }

  has(topic: string): boolean {
    return this.#topics.has(topic);
  }

  queueCount(topic: string): number {
    return this.#topics.get(topic)?.queues ?? 0;
  }

  attemptsMax(group: string): number {
    return this.#groups.get(group)?.attemptsMax ?? attemptsMaxDefault;
  }

  /** Without the broker's own. */
  get topics(): readonly TopicInfo[] {
    return [...this.#topics.values()].filter(({ name }) => name !== halfTopic && name !== discardedTopic);
  }

  get groups(): readonly GroupInfo[] {
    return [...this.#groups.values()];
  }

  /** Resolves when everything so far is on disk; rejects when that failed. */
  saved(): Promise<void> {
    return this.#next ?? this.#saving ?? Promise.resolve();
  }

  #addTopic(topic: TopicInfo): TopicInfo {
    this.#topics.set(topic.name, topic);
    this.#saveSoon();
    return topic;
  }

  #assertRoom(): void {
    if (this.#topics.size >= topicsMax) {
      throw new BrokerError(code.forbidden, `there are ${topicsMax} topics already; delete some`);
    }
  }

  #saveSoon(): Promise<void> {
    if (this.#next === undefined) {
      const before = this.#saving ?? Promise.resolve();
      this.#next = before
        .catch(() => {}) // Said to those who waited for it; the next text holds that change, too.
        .then(() => {
          this.#saving = this.#next;
          this.#next = undefined;
          return this.#options.file.save(this.#text());
        });
      // Whoever needs to know asks `saved`; nobody else must be surprised by a rejection.
      this.#next.catch(() => {});
    }
    return this.#next;
  }

  #text(): string {
    return JSON.stringify({ version, topics: [...this.#topics.values()], groups: [...this.#groups.values()] });
  }

  #read(text: string): void {
    const saved = parsed(text);
    if (typeof saved?.version === "number" && saved.version !== version) {
      throw new Error(`catalog.json was written by version ${saved.version} of the broker's catalog: start that one`);
    }
    if (!Array.isArray(saved?.topics) || !Array.isArray(saved.groups)) {
      throw new Error(
        "catalog.json, the broker's list of topics and groups, cannot be read: bring back a copy of it, or remove it " +
          "(no message is lost; topics that hold messages come back as MIXED, groups with their defaults)",
      );
    }
    for (const topic of saved.topics) this.#topics.set(topic.name, topic);
    for (const group of saved.groups) this.#groups.set(group.name, group);
  }
}

type Saved = { readonly version: number; readonly topics: readonly TopicInfo[]; readonly groups: readonly GroupInfo[] };

const parsed = (text: string): Partial<Saved> | undefined => {
  try {
    return JSON.parse(text) ?? undefined;
  } catch {
    return undefined;
  }
};

const noTopic = (name: string): BrokerError =>
  new BrokerError(
    code.topicNotFound,
    `the topic "${name}" does not exist; create it: escapement topics create ${name}`,
  );
