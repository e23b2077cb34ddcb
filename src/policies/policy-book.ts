import { createHash } from "node:crypto";
import type { SendPolicies } from "../dispatch/send-policies.port.ts";
import type { DocumentStore } from "../documents/document-store.port.ts";
import { EscapementError } from "../message/errors.ts";
import { formatInstant } from "../message/time.ts";
import { parsePolicy } from "../retry/parse-policy.ts";
import type { RetryPolicy } from "../retry/policy.ts";
import { presets } from "../retry/presets.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type {
  DeletePolicyReply,
  PolicyListReply,
  PolicyReply,
  PolicySummary,
  PolicyVersionsReply,
  PutPolicyReply,
  RetryBindingPlace,
  RetryBindingsReply,
  RetryPolicyInput,
} from "../wire/http.ts";
import {
  admitBinding,
  admitPlace,
  admitPolicy,
  admitWho,
  checkName,
  checkOwnName,
  readReference,
} from "./admit-policy.ts";
import {
  type Book,
  type BookEntry,
  bookText,
  emptyBook,
  placeText,
  readBook,
  samePlace,
  specialFirst,
  withPolicy,
} from "./book.ts";
import type { BoundPolicies, Policies, RemovePolicy } from "./policies.port.ts";

/**
 * Retry policies by name and version, on documents. A version is a document of its own that never changes; which one
 * holds stands in the book (book.ts), which every process looks at once a second, so a change holds everywhere within
 * two seconds and without a restart.
 *
 * What surprised us: a version has to be written before the book points to it, so a writer that dies between the two
 * leaves one that never held. It is taken for nothing: versions are found from the newest backwards, each names the one
 * before it, and the next writer takes the next number.
 */
export class PolicyBook implements Policies, SendPolicies {
  readonly #documents: DocumentStore;
  readonly #clock: Pick<Clock, "nowMs">;
  readonly #log: Log;
  /** Versions that were read: they cannot change. */
  readonly #versions = new Map<string, Version>();
  #known: Known = { revision: 0, book: emptyBook, bound: [], forSends: [] };
  /** Grows with everything that was learned. */
  #learnings = 0;

  constructor({ documents, clock, log }: { documents: DocumentStore; clock: Pick<Clock, "nowMs">; log: Log }) {
    this.#documents = documents;
    this.#clock = clock;
    this.#log = log;
  }

  /** One look at what holds; answers in how many milliseconds it wants to look again. */
  async runOnce(): Promise<number> {
    await this.#learn(await this.#open());
    return lookEveryMs;
  }

  // --- what holds -----------------------------------------------------------------------------------------------

  policyFor(topic: string, tag: string | undefined): RetryPolicy | undefined {
    for (const bound of this.#known.forSends) {
      if (bound.topic !== undefined && bound.topic !== topic) continue;
      if (bound.tag === undefined || bound.tag === tag) return bound.parsed;
    }
    return undefined;
  }

  boundTo(group: string, topics: readonly string[]): BoundPolicies {
    const fitting = this.#known.bound.filter(
      (bound) =>
        (bound.group === undefined || bound.group === group) &&
        (bound.topic === undefined || topics.includes(bound.topic)),
    );
    return tagged(
      fitting.map(({ topic, tag, name, version, policy }) => ({
        ...(topic === undefined ? undefined : { topic }),
        ...(tag === undefined ? undefined : { messageTag: tag }),
        name,
        version,
        policy,
      })),
    );
  }

  async named(name: string): Promise<BoundPolicies> {
    // Workers ask every second, so what is known here will do.
    const known = this.#known.book;
    const book = known.policies[checkName(name)] === undefined ? (await this.#open()).book : known;
    const found = await this.#newestThatHeld(book, name);
    return tagged([{ name, version: found.version, policy: found.policy }]);
  }

  async asDecided(
    references: readonly string[],
  ): Promise<{ name: string; version: number; policy: RetryPolicyInput | null }[]> {
    const { book } = await this.#open();
    return Promise.all(
      references.map(async (reference) => {
        const { name, version = 0 } = readReference(reference);
        const found = await this.#heldVersion(book.policies[name], name, version);
        return { name, version, policy: found?.policy ?? null };
      }),
    );
  }

  // --- policies -------------------------------------------------------------------------------------------------

  async list(): Promise<PolicyListReply> {
    const { book } = await this.#open();
    const boundTimes = (name: string) => book.bindings.filter(({ policy }) => policy === name).length;
    const own = Object.entries(book.policies)
      .filter(([, { deleted }]) => deleted !== true)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(
        ([name, { version, deadTopic }]): PolicySummary => ({
          name,
          version,
          preset: false,
          bindings: boundTimes(name),
          ...(deadTopic === undefined ? undefined : { deadTopic }),
        }),
      );
    const others = presets.map(
      ({ name, summary }): PolicySummary => ({ name, version: 0, preset: true, bindings: boundTimes(name), summary }),
    );
    return { policies: [...own, ...others] };
  }

  async get(reference: string): Promise<PolicyReply> {
    const { name, version } = readReference(reference);
    const { book } = await this.#open();
    const entry = book.policies[name];
    if (version === undefined && entry?.deleted) throw gone(name);
    const wanted = version ?? entry?.version ?? 0;
    const found = await this.#heldVersion(entry, name, wanted);
    if (found === undefined) throw unknown(reference);
    return replyOf(name, wanted, found, entry);
  }

  async versions(name: string, before?: number): Promise<PolicyVersionsReply> {
    const entry = (await this.#open()).book.policies[checkName(name)];
    if (entry === undefined) {
      if (isPreset(name)) return { name, versions: [], more: false };
      throw unknown(name);
    }
    const versions: PolicyVersionsReply["versions"] = [];
    let number = entry.version;
    for (; number > 0 && versions.length < versionsShownMax; ) {
      const found = await this.#version(name, number);
      if (found === undefined) break;
      const { policy, at, previous, ...who } = found;
      if (before === undefined || number < before) {
        versions.push({ version: number, deleted: policy === null, at: at ?? "", ...who });
      }
      number = previous;
    }
    return { name, versions, more: number > 0 };
  }

  async put(name: string, request: unknown): Promise<PutPolicyReply> {
    checkOwnName(name);
    const { input, policy, ifVersion, by, why } = admitPolicy(request);
    const deadTopic = policy.dead?.topic;
    const text = JSON.stringify(policy);
    return this.#change<PutPolicyReply>(async ({ book }) => {
      const entry = book.policies[name];
      const held = entry === undefined || entry.deleted ? undefined : await this.#version(name, entry.version);
      // Said twice it holds once: who did not get the answer may ask again.
      if (held?.policy && JSON.stringify(parsePolicy(held.policy)) === text) {
        return { reply: { ...replyOf(name, entry!.version, held, entry), changed: false } };
      }
      checkVersion(name, held === undefined ? 0 : entry!.version, ifVersion);
      const written = {
        policy: input,
        at: formatInstant(this.#clock.nowMs()),
        ...(by === undefined ? undefined : { by }),
        ...(why === undefined ? undefined : { why }),
        previous: entry?.version ?? 0,
      };
      const version = await this.#writeVersion(name, written);
      const next = { version, ...(deadTopic === undefined ? undefined : { deadTopic }) };
      return {
        book: withPolicy(book, name, next),
        reply: { ...replyOf(name, version, written, next), changed: true },
        undo: () => this.#documents.remove(versionKind, versionName(name, version), 1),
      };
    });
  }

  async remove(name: string, options: RemovePolicy): Promise<DeletePolicyReply> {
    checkOwnName(name);
    const { ifVersion, withBindings = false } = options;
    const who = admitWho(options);
    return this.#change(async ({ book }) => {
      const entry = book.policies[name];
      if (entry === undefined) throw unknown(name);
      if (entry.deleted) throw gone(name);
      checkVersion(name, entry.version, ifVersion);
      const bound = book.bindings.filter(({ policy }) => policy === name);
      if (bound.length > 0 && !withBindings) {
        const places = bound.slice(0, placesToldMax).map(placeText).join("; ");
        const more = bound.length > placesToldMax ? ` and ${bound.length - placesToldMax} more` : "";
        throw new EscapementError(
          "policy_bound",
          `${name} is bound to: ${places}${more}. Bind something else there, or delete it together with its bindings.`,
        );
      }
      const at = formatInstant(this.#clock.nowMs());
      const version = await this.#writeVersion(name, { policy: null, at, ...who, previous: entry.version });
      const bindings = book.bindings.filter(({ policy }) => policy !== name);
      return {
        book: { ...withPolicy(book, name, { version, deleted: true }), bindings },
        reply: { name, version, bindingsRemoved: bound },
        undo: () => this.#documents.remove(versionKind, versionName(name, version), 1),
      };
    });
  }

  // --- bindings -------------------------------------------------------------------------------------------------

  async bindings(): Promise<RetryBindingsReply> {
    return { bindings: [...(await this.#open()).book.bindings] };
  }

  async bind(request: unknown): Promise<RetryBindingsReply> {
    const binding = admitBinding(request);
    return this.#change(async ({ book }) => {
      const entry = book.policies[binding.policy];
      if (entry?.deleted) throw gone(binding.policy);
      if (entry === undefined && !isPreset(binding.policy)) throw unknown(binding.policy);
      const others = book.bindings.filter((other) => !samePlace(other, binding));
      const bindings = [...others, binding].sort(specialFirst);
      return { book: { ...book, bindings }, reply: { bindings } };
    });
  }

  async unbind(given: RetryBindingPlace): Promise<RetryBindingsReply> {
    const place = admitPlace(given);
    return this.#change(async ({ book }) => {
      const bindings = book.bindings.filter((other) => !samePlace(other, place));
      if (bindings.length < book.bindings.length) return { book: { ...book, bindings }, reply: { bindings } };
      throw new EscapementError(
        "binding_not_found",
        `Nothing is bound to ${placeText(place)}; see /v1/retry-bindings.`,
      );
    });
  }

  // --- documents ------------------------------------------------------------------------------------------------

  async #open(): Promise<Opened> {
    const seen = this.#learnings;
    const found = await this.#documents.read(bookKind, bookName);
    if (found === undefined) return { revision: 0, book: emptyBook, seen };
    return { revision: found.revision, book: readBook(found.body), seen };
  }

  /** Decides by the book as it is, writes what it becomes, and decides again when somebody else was quicker. */
  async #change<T>(decide: (opened: Opened) => Promise<Change<T>>): Promise<T> {
    for (let tries = 0; tries < triesMax; tries++) {
      const opened = await this.#open();
      const { book, reply, undo } = await decide(opened);
      if (book === undefined) return reply;
      let text: string;
      try {
        text = bookText(book);
      } catch (error) {
        await undo?.();
        throw error;
      }
      const result = await this.#documents.write(bookKind, bookName, text, opened.revision);
      if (result.outcome === "written") {
        // Known already; that it holds here at once as well is a convenience.
        const written = { revision: result.revision, book, seen: this.#learnings };
        await this.#learn(written).catch(() => {});
        return reply;
      }
      await undo?.();
    }
    throw new EscapementError("overloaded", "Others change the retry policies all the time; try again.", {
      retryAfterMs: 1_000,
    });
  }

  /** The first number that is free after the one before. */
  async #writeVersion(name: string, version: Version): Promise<number> {
    const body = JSON.stringify(version);
    for (let number = version.previous + 1; ; number++) {
      const result = await this.#documents.write(versionKind, versionName(name, number), body, 0);
      if (result.outcome === "written") return number;
    }
  }

  async #version(name: string, version: number): Promise<Version | undefined> {
    const preset = presets.find((candidate) => candidate.name === name);
    if (preset !== undefined) return version === 0 ? { policy: preset.input, previous: 0 } : undefined;
    const key = versionName(name, version);
    const known = this.#versions.get(key);
    if (known !== undefined) return known;
    const found = await this.#documents.read(versionKind, key);
    if (found === undefined) return undefined;
    const read = JSON.parse(found.body) as Version;
    if (this.#versions.size >= versionsKnownMax) this.#versions.clear();
    this.#versions.set(key, read);
    return read;
  }

  /** Not one beyond the newest: that may be on the way, and may never hold. */
  async #heldVersion(entry: BookEntry | undefined, name: string, version: number): Promise<Version | undefined> {
    return version > (entry?.version ?? 0) ? undefined : this.#version(name, version);
  }

  async #newestThatHeld(book: Book, name: string): Promise<{ version: number; policy: RetryPolicyInput }> {
    let version = book.policies[name]?.version ?? 0;
    for (;;) {
      const found = await this.#version(name, version);
      if (found === undefined) throw unknown(name);
      if (found.policy !== null) return { version, policy: found.policy };
      version = found.previous;
    }
  }

  /** Makes of the book what is asked many times a second. */
  async #learn({ revision, book, seen }: Opened): Promise<void> {
    if (revision === this.#known.revision) return;
    const bound: Bound[] = [];
    for (const { policy: name, ...place } of book.bindings) {
      const version = book.policies[name]?.version ?? 0;
      const policy = (await this.#version(name, version))?.policy;
      try {
        if (policy) bound.push({ ...place, name, version, policy, parsed: parsePolicy(policy) });
      } catch (error) {
        // Written by a newer program; the next binding that fits holds here.
        this.#log.error({ policy: `${name}@${version}`, err: error }, "a bound retry policy is not understood here");
      }
    }
    // What was read before something else was learned may be older than that.
    if (seen !== this.#learnings) return;
    this.#learnings++;
    this.#known = { revision, book, bound, forSends: bound.filter(({ group }) => group === undefined) };
  }
}

/** With the time that a look takes, a change holds everywhere within two seconds. */
const lookEveryMs = 1_000;
const bookKind = "policy-book";
const bookName = "book";
const versionKind = "policy";
const versionName = (name: string, version: number): string => `${name}@${version}`;
/** Each time somebody else must have been quicker. */
const triesMax = 20;
const versionsShownMax = 100;
const versionsKnownMax = 1_000;
const placesToldMax = 5;

type Opened = { readonly revision: number; readonly book: Book; readonly seen: number };

/** Without a book nothing changes; `undo` takes back what was written for a book that did not come to be. */
type Change<T> = { readonly book?: Book; readonly reply: T; readonly undo?: () => Promise<unknown> };

type Version = {
  readonly policy: RetryPolicyInput | null;
  readonly at?: string;
  readonly by?: string;
  readonly why?: string;
  /** The version that held before; 0 for none. */
  readonly previous: number;
};

type Bound = RetryBindingPlace & {
  readonly name: string;
  readonly version: number;
  readonly policy: RetryPolicyInput;
  readonly parsed: RetryPolicy;
};

type Known = {
  readonly revision: number;
  readonly book: Book;
  readonly bound: readonly Bound[];
  readonly forSends: readonly Bound[];
};

const tagged = (bound: BoundPolicies["bound"]): BoundPolicies => ({
  tag: createHash("sha256").update(JSON.stringify(bound)).digest("base64url").slice(0, 16),
  bound,
});

const replyOf = (
  name: string,
  version: number,
  { policy, previous: _, ...rest }: Version,
  entry?: BookEntry,
): PolicyReply => ({
  name,
  version,
  policy,
  latest: entry?.version ?? 0,
  preset: isPreset(name),
  deleted: entry?.deleted ?? false,
  ...rest,
});

const isPreset = (name: string): boolean => presets.some((preset) => preset.name === name);

const checkVersion = (name: string, present: number, wanted: number | undefined): void => {
  if (wanted === undefined || wanted === present) return;
  const now = present === 0 ? "there is none" : `it is at version ${present}`;
  throw new EscapementError(
    "policy_changed",
    `${name}: ifVersion is ${wanted}, but ${now}. Look at it and decide again.`,
    {
      field: "ifVersion",
    },
  );
};

const unknown = (reference: string): EscapementError =>
  new EscapementError("policy_not_found", `There is no retry policy ${reference}; GET /v1/retry-policies lists them.`);

const gone = (name: string): EscapementError =>
  new EscapementError("policy_not_found", `The retry policy ${name} was deleted; its versions are still there.`);
