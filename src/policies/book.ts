import { documentLimits } from "../documents/document-store.port.ts";
import { EscapementError } from "../message/errors.ts";
import type { RetryBinding, RetryBindingPlace } from "../wire/http.ts";

/**
 * The one document that says which policies there are, in which version, and what they are bound to; pure. It is small
 * so that every process can look at it once a second, and one, so that a change of a policy and a change of a binding
 * cannot pass each other: whoever deletes a policy while somebody binds it is told.
 */
export type Book = {
  readonly policies: Readonly<Record<string, BookEntry>>;
  readonly bindings: readonly RetryBinding[];
};

export type BookEntry = {
  readonly version: number;
  /** Kept, so that a later policy of that name goes on counting. */
  readonly deleted?: true;
  /** Where it sends the dead, to find circles without reading every policy. */
  readonly deadTopic?: string;
};

export const emptyBook: Book = { policies: Object.create(null), bindings: [] };

/** With the longest names the book stays within a document; `bookText` looks once more. */
export const bookLimits = { policiesMax: 400, bindingsMax: 300 } as const;

export const readBook = (text: string): Book => {
  const { policies, bindings } = JSON.parse(text) as Book;
  // Without a prototype: a policy may be called "constructor".
  return { policies: Object.assign(Object.create(null), policies), bindings };
};

/** Throws `too_many_policies` when it has become too large, and `policy_circle`. */
export const bookText = (book: Book): string => {
  const { policiesMax, bindingsMax } = bookLimits;
  const policies = Object.keys(book.policies).length;
  if (policies > policiesMax) throw full(`there are ${policiesMax} retry policies, deleted ones included`);
  if (book.bindings.length > bindingsMax) throw full(`there are ${bindingsMax} bindings`);
  const circle = circleIn(book);
  if (circle !== undefined) throw new EscapementError("policy_circle", circle);
  const text = JSON.stringify(book);
  if (Buffer.byteLength(text) > documentLimits.bodyBytesMax) throw full("the names of all policies and bindings");
  return text;
};

const full = (what: string): EscapementError =>
  new EscapementError("too_many_policies", `${what}: that is all there is room for. Remove some that nobody needs.`);

export const withPolicy = (book: Book, name: string, entry: BookEntry): Book => ({
  ...book,
  policies: Object.assign(Object.create(null), book.policies, { [name]: entry }),
});

// --- bindings -----------------------------------------------------------------------------------------------------

/**
 * The most special first: who names more comes first, and of as many a group before a topic before a tag. Two that
 * name the same fields with different values never fit one message, so there are no ties.
 */
export const specialFirst = (a: RetryBinding, b: RetryBinding): number =>
  specialty(b) - specialty(a) || (placeText(a) < placeText(b) ? -1 : 1);

const specialty = ({ group, topic, tag }: RetryBindingPlace): number => {
  const [g, t, a] = [group, topic, tag].map((part) => (part === undefined ? 0 : 1)) as [number, number, number];
  return 8 * (g + t + a) + 4 * g + 2 * t + a;
};

export const samePlace = (a: RetryBindingPlace, b: RetryBindingPlace): boolean =>
  a.group === b.group && a.topic === b.topic && a.tag === b.tag;

/** For people. */
export const placeText = ({ group, topic, tag }: RetryBindingPlace): string => {
  const parts = [
    ...(group === undefined ? [] : [`group ${group}`]),
    ...(topic === undefined ? [] : [`topic ${topic}`]),
    ...(tag === undefined ? [] : [`tag ${tag}`]),
  ];
  return parts.length === 0 ? "everything" : parts.join(", ");
};

// --- circles ------------------------------------------------------------------------------------------------------

/**
 * A policy sends its dead to a topic; whoever is bound there decides about them again. When that leads back, a message
 * that nobody can handle would go round for ever. Answers such a circle spelled out. What is bound to a group or tag
 * alone is not followed: whether they receive from that topic is not known here.
 */
export const circleIn = ({ policies, bindings }: Book): string | undefined => {
  const next = (name: string): { topic: string; binding: RetryBinding }[] => {
    const topic = policies[name]?.deadTopic;
    if (topic === undefined) return [];
    const own = bindings.filter((binding) => binding.topic === topic);
    const forAll = own.some((binding) => binding.group === undefined && binding.tag === undefined);
    const rest = forAll ? [] : bindings.filter((binding) => placeText(binding) === "everything");
    return [...own, ...rest].map((binding) => ({ topic, binding }));
  };
  const done = new Set<string>();
  const way: { name: string; text: string }[] = [];
  const walk = (name: string): string | undefined => {
    const start = way.findIndex((step) => step.name === name);
    if (start >= 0)
      return way
        .slice(start)
        .map(({ text }) => text)
        .join("; ");
    if (done.has(name)) return undefined;
    for (const { topic, binding } of next(name)) {
      const text = `${name} sends its dead to ${topic}, where ${binding.policy} decides (bound to ${placeText(binding)})`;
      way.push({ name, text });
      const circle = walk(binding.policy);
      if (circle !== undefined) return circle;
      way.pop();
    }
    done.add(name);
    return undefined;
  };
  for (const { policy } of bindings) {
    const circle = walk(policy);
    if (circle !== undefined)
      return `dead messages would go in a circle: ${circle}. Bind one of these topics to a policy without a dead topic.`;
  }
  return undefined;
};
