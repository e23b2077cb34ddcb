import { beforeEach, describe, expect, it } from "vitest";
import { MemoryDocumentStore } from "../adapters/memory/memory-document-store.ts";
import type { DocumentStore } from "../documents/document-store.port.ts";
import { epochMs } from "../message/time.ts";
import { presets } from "../retry/presets.ts";
import { silentLog } from "../runtime/log.ts";
import { bookLimits } from "./book.ts";
import { PolicyBook } from "./policy-book.ts";

// Retry policies by name, version and binding, on the memory store. `book` and `elsewhere` are two processes.

let documents: MemoryDocumentStore;
let book: PolicyBook;
let elsewhere: PolicyBook;
let errors: unknown[];
let nowMs = 0;
const openBook = (on: DocumentStore) =>
  new PolicyBook({
    documents: on,
    clock: { nowMs: () => epochMs(nowMs) },
    log: { ...silentLog, error: (fields: unknown) => void errors.push(fields) },
  });
beforeEach(() => {
  nowMs = 1_800_000_000_000;
  errors = [];
  documents = new MemoryDocumentStore();
  book = openBook(documents);
  elsewhere = openBook(documents);
});

const fixed = (delay: string, more: object = {}) => ({
  policy: { backoff: { kind: "fixed", delay, jitter: "none" }, ...more },
});
const deadTo = (topic: string) => ({ policy: { dead: { topic } } });
const refused = (code: string, text: string | RegExp, field?: string) =>
  expect.objectContaining({
    code,
    message: typeof text === "string" ? expect.stringContaining(text) : expect.stringMatching(text),
    ...(field === undefined ? {} : { field }),
  });

describe("a policy", () => {
  it("is found by its name, with who, when and why, and every version stays readable", async () => {
    const first = await book.put("orders", { ...fixed("5s"), by: "ops", why: "first try" });
    expect(first).toEqual({
      name: "orders",
      version: 1,
      policy: fixed("5s").policy,
      latest: 1,
      preset: false,
      deleted: false,
      changed: true,
      at: "2027-01-15T08:00:00.000Z",
      by: "ops",
      why: "first try",
    });
    nowMs += 60_000;
    expect(await elsewhere.put("orders", { ...fixed("9s"), why: "Zu schnell für Kunde Ä" })).toMatchObject({
      version: 2,
    });
    expect(await book.get("orders")).toMatchObject({ version: 2, policy: fixed("9s").policy, latest: 2 });
    expect(await book.get("orders@1")).toMatchObject({ version: 1, policy: fixed("5s").policy, latest: 2, by: "ops" });
    expect(await book.versions("orders")).toEqual({
      name: "orders",
      versions: [
        { version: 2, deleted: false, at: "2027-01-15T08:01:00.000Z", why: "Zu schnell für Kunde Ä" },
        { version: 1, deleted: false, at: "2027-01-15T08:00:00.000Z", by: "ops", why: "first try" },
      ],
      more: false,
    });
    expect((await book.versions("orders", 2)).versions.map(({ version }) => version)).toEqual([1]);
  });

  it("said twice holds once: whoever got no answer may ask again", async () => {
    await book.put("orders", { ...fixed("5s"), ifVersion: 0 });
    const again = await book.put("orders", { ...fixed("5000ms"), ifVersion: 0 });
    expect(again).toMatchObject({ version: 1, changed: false });
    expect((await book.versions("orders")).versions).toHaveLength(1);
  });

  it("is changed only from the version that was seen, where one is given", async () => {
    await expect(book.put("orders", { ...fixed("5s"), ifVersion: 3 })).rejects.toEqual(
      refused("policy_changed", "there is none", "ifVersion"),
    );
    await book.put("orders", { ...fixed("5s"), ifVersion: 0 });
    await book.put("orders", { ...fixed("6s"), ifVersion: 1 });
    await expect(book.put("orders", { ...fixed("7s"), ifVersion: 1 })).rejects.toEqual(
      refused("policy_changed", "it is at version 2", "ifVersion"),
    );
    await expect(book.put("orders", { ...fixed("7s"), ifVersion: 0 })).rejects.toMatchObject({
      code: "policy_changed",
    });
    await expect(book.remove("orders", { ifVersion: 1 })).rejects.toMatchObject({ code: "policy_changed" });
    expect(await book.get("orders")).toMatchObject({ version: 2, policy: fixed("6s").policy });
  });

  it("of many writers at once each gets a version of its own, and none is lost", async () => {
    const replies = await Promise.all(
      Array.from({ length: 12 }, (_, i) => (i % 2 === 0 ? book : elsewhere).put("orders", fixed(`${i + 1}s`))),
    );
    expect(replies.map(({ version }) => version).sort((a, b) => a - b)).toEqual(
      [...new Set(replies.map((r) => r.version))].sort((a, b) => a - b),
    );
    const { versions } = await book.versions("orders");
    expect(versions).toHaveLength(12);
    for (const { version, policy } of replies) expect((await book.get(`orders@${version}`)).policy).toEqual(policy);
    const last = versions[0]!.version;
    expect((await book.get("orders")).policy).toEqual(replies.find(({ version }) => version === last)!.policy);
  });

  it("exactly one of many writers from one version wins", async () => {
    await book.put("orders", fixed("1s"));
    const results = await Promise.allSettled(
      Array.from({ length: 8 }, (_, i) => book.put("orders", { ...fixed(`${i + 2}s`), ifVersion: 1 })),
    );
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    for (const result of results) {
      if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "policy_changed" });
    }
  });

  it("a writer that dies between its version and the book leaves nothing that holds, and nobody in the way", async () => {
    await book.put("orders", fixed("1s"));
    const dying = openBook({
      read: documents.read.bind(documents),
      list: documents.list.bind(documents),
      remove: documents.remove.bind(documents),
      close: documents.close.bind(documents),
      write: async (kind, name, body, expected) => {
        if (kind === "policy-book") throw new Error("killed");
        return documents.write(kind, name, body, expected);
      },
    });
    await expect(dying.put("orders", fixed("2s"))).rejects.toThrow("killed");
    expect(await book.get("orders")).toMatchObject({ version: 1 });
    await expect(book.get("orders@2")).rejects.toMatchObject({ code: "policy_not_found" });
    expect(await book.asDecided(["orders@2"])).toEqual([{ name: "orders", version: 2, policy: null }]);
    expect(await book.put("orders", fixed("3s"))).toMatchObject({ version: 3 });
    expect((await book.versions("orders")).versions.map(({ version }) => version)).toEqual([3, 1]);
  });

  it.each([
    ["a b", fixed("1s"), "name"],
    ["", fixed("1s"), "name"],
    ["simulate", fixed("1s"), "name"],
    ["x".repeat(65), fixed("1s"), "name"],
    ["orders@1", fixed("1s"), "name"],
    ["orders", 7, "request"],
    ["orders", {}, "policy"],
    ["orders", { policy: { backof: {} } }, "policy.backof"],
    ["orders", { ...fixed("1s"), ifVersion: -1 }, "ifVersion"],
    ["orders", { ...fixed("1s"), why: "" }, "why"],
    ["orders", { ...fixed("1s"), why: "a\nb" }, "why"],
    ["orders", { ...fixed("1s"), why: "x".repeat(501) }, "why"],
    ["orders", { ...fixed("1s"), by: 7 }, "by"],
    ["orders", { ...fixed("1s"), owner: "me" }, "request.owner"],
  ])("with a mistake is refused whole, with the place: %s %j", async (name, request, field) => {
    await expect(book.put(name, request)).rejects.toMatchObject({ code: "invalid_field", field });
    expect((await book.list()).policies.every(({ preset }) => preset)).toBe(true);
  });

  it.each([
    [{ backoff: { base: 5 } }, "policy.backoff.base", 'perhaps "5s"'],
    [{ backoff: { cap: "90d" } }, "policy.backoff.cap", "look at the unit"],
    [{ backoff: { kind: "fixed", delay: -1 } }, "policy.backoff.delay", "from 0 up"],
    [{ limits: { maxAge: 86_400 }, breaker: { window: 30 } }, "policy.breaker.window", 'perhaps "30s"'],
  ])("RT-25 with a wrong unit is refused before anything is stored: %j", async (policy, field, text) => {
    await expect(book.put("orders", { policy })).rejects.toEqual(refused("invalid_field", text, field));
    expect(await documents.list("policy", { limit: 10 })).toEqual([]);
  });

  it("may have any name, one of JavaScript's own too", async () => {
    for (const name of ["constructor", "toString", "hasOwnProperty"]) {
      await expect(book.get(name)).rejects.toMatchObject({ code: "policy_not_found" });
      expect(await book.put(name, fixed("1s"))).toMatchObject({ version: 1 });
      expect(await elsewhere.get(name)).toMatchObject({ version: 1 });
    }
  });

  it("there are so many, and no more", async () => {
    const entries = Array.from({ length: bookLimits.policiesMax }, (_, i) => [`p${i}`, { version: 1 }]);
    await documents.write(
      "policy-book",
      "book",
      JSON.stringify({ policies: Object.fromEntries(entries), bindings: [] }),
      0,
    );
    await expect(book.put("one-more", fixed("1s"))).rejects.toEqual(refused("too_many_policies", "Remove some"));
    // And what was written for it is gone.
    expect(await documents.list("policy", { limit: 10 })).toEqual([]);
  });
});

describe("a preset", () => {
  it("is read by its name, bound like any other, and cannot be changed", async () => {
    expect(await book.get("rocketmq-ladder")).toMatchObject({ version: 0, preset: true, latest: 0 });
    expect((await book.list()).policies.map(({ name }) => name)).toEqual(presets.map(({ name }) => name));
    await expect(book.put("default", fixed("1s"))).rejects.toEqual(refused("policy_preset", "another name"));
    await expect(book.remove("default", {})).rejects.toMatchObject({ code: "policy_preset" });
    await book.bind({ topic: "orders", policy: "rocketmq-ladder" });
    expect(book.policyFor("orders", undefined)?.limits.maxAttempts).toBe(17);
    expect(book.boundTo("g", ["orders"]).bound).toMatchObject([{ name: "rocketmq-ladder", version: 0 }]);
    expect(await book.asDecided(["rocketmq-ladder@0", "rocketmq-ladder@1"])).toMatchObject([
      { policy: presets[1]!.input },
      { policy: null },
    ]);
    expect(await book.versions("default")).toEqual({ name: "default", versions: [], more: false });
  });
});

describe("deleting", () => {
  it("leaves its versions readable, and a later policy of that name goes on counting", async () => {
    await book.put("orders", fixed("1s"));
    await book.put("orders", fixed("2s"));
    expect(await book.remove("orders", { by: "ops", why: "unused" })).toEqual({
      name: "orders",
      version: 3,
      bindingsRemoved: [],
    });
    await expect(book.get("orders")).rejects.toEqual(refused("policy_not_found", "was deleted"));
    await expect(book.remove("orders", {})).rejects.toMatchObject({ code: "policy_not_found" });
    await expect(book.bind({ policy: "orders" })).rejects.toEqual(refused("policy_not_found", "was deleted"));
    expect((await book.list()).policies.some(({ name }) => name === "orders")).toBe(false);
    expect(await book.get("orders@2")).toMatchObject({ policy: fixed("2s").policy, deleted: true });
    expect(await book.versions("orders")).toMatchObject({
      versions: [{ version: 3, deleted: true, by: "ops", why: "unused" }, { version: 2 }, { version: 1 }],
    });
    expect(await book.put("orders", { ...fixed("2s"), ifVersion: 0 })).toMatchObject({ version: 4, deleted: false });
    expect(await book.get("orders")).toMatchObject({ version: 4 });
  });

  it("a policy that is bound is refused and says where, unless its bindings go with it", async () => {
    await book.put("slow", fixed("1m"));
    await book.bind({ group: "billing", topic: "orders", policy: "slow" });
    await book.bind({ policy: "slow" });
    await book.bind({ topic: "refunds", policy: "default" });
    await expect(elsewhere.remove("slow", {})).rejects.toEqual(
      refused("policy_bound", "slow is bound to: group billing, topic orders; everything."),
    );
    expect(await book.get("slow")).toMatchObject({ deleted: false });
    expect((await elsewhere.remove("slow", { withBindings: true })).bindingsRemoved).toEqual([
      { group: "billing", topic: "orders", policy: "slow" },
      { policy: "slow" },
    ]);
    expect(await book.bindings()).toEqual({ bindings: [{ topic: "refunds", policy: "default" }] });
  });

  it("in use by its name: the last version that held goes on deciding; one that never was is an error", async () => {
    await book.put("slow", fixed("1m"));
    await book.put("slow", fixed("2m"));
    const before = await elsewhere.named("slow");
    await book.remove("slow", {});
    await elsewhere.runOnce();
    expect(await elsewhere.named("slow")).toEqual(before);
    expect(before.bound).toEqual([{ name: "slow", version: 2, policy: fixed("2m").policy }]);
    await expect(elsewhere.named("fast")).rejects.toMatchObject({ code: "policy_not_found" });
    expect((await elsewhere.named("default")).bound).toMatchObject([{ name: "default", version: 0 }]);
  });

  it("while somebody binds it: one of the two is told, and nothing is bound to what is gone", async () => {
    for (let i = 0; i < 10; i++) {
      await book.put("slow", fixed("1m"));
      const [bound, removed] = await Promise.allSettled([
        elsewhere.bind({ topic: "orders", policy: "slow" }),
        book.remove("slow", {}),
      ]);
      expect([bound.status, removed.status].sort()).toEqual(["fulfilled", "rejected"]);
      const { bindings } = await book.bindings();
      expect(bindings.length).toBe(bound.status === "fulfilled" ? 1 : 0);
      await book.remove("slow", { withBindings: true }).catch(() => {});
    }
  });
});

describe("bindings", () => {
  it("come most special first: who names more, then group before topic before tag", async () => {
    await book.put("p", fixed("1s"));
    const places = [
      {},
      { tag: "t" },
      { topic: "o" },
      { group: "g" },
      { topic: "o", tag: "t" },
      { group: "g", tag: "t" },
      { group: "g", topic: "o" },
      { group: "g", topic: "o", tag: "t" },
    ];
    for (const place of places) await book.bind({ ...place, policy: "p" });
    expect((await book.bindings()).bindings.map(({ policy: _, ...place }) => place)).toEqual([...places].reverse());
  });

  it("one place has one policy: binding again takes the other one's place", async () => {
    await book.put("a", fixed("1s"));
    await book.put("b", fixed("2s"));
    await book.bind({ topic: "o", policy: "a" });
    expect(await elsewhere.bind({ topic: "o", policy: "b" })).toEqual({ bindings: [{ topic: "o", policy: "b" }] });
    expect(await book.unbind({ topic: "o" })).toEqual({ bindings: [] });
    await expect(book.unbind({ topic: "o" })).rejects.toEqual(refused("binding_not_found", "topic o"));
  });

  it.each([
    [{ topic: "a b", policy: "default" }, "topic"],
    [{ group: "", policy: "default" }, "group"],
    [{ tag: "a|b", policy: "default" }, "tag"],
    [{ tag: "x".repeat(128), policy: "default" }, "tag"],
    [{ topic: "o" }, "policy"],
    [{ topic: "o", policy: "a b" }, "name"],
    [{ topics: ["o"], policy: "default" }, "request.topics"],
    [null, "request"],
  ])("with a mistake are refused with the place: %j", async (request, field) => {
    await expect(book.bind(request)).rejects.toMatchObject({ code: "invalid_field", field });
  });

  it("to a policy that is not there are refused", async () => {
    await expect(book.bind({ topic: "o", policy: "nowhere" })).rejects.toEqual(refused("policy_not_found", "nowhere"));
  });

  it("a message of a topic and tag finds the most special one without a group", async () => {
    for (const [name, place] of [
      ["all", {}],
      ["tag", { tag: "t" }],
      ["topic", { topic: "o" }],
      ["both", { topic: "o", tag: "t" }],
      ["group", { group: "g", topic: "o", tag: "t" }],
    ] as const) {
      await book.put(name, { policy: { limits: { maxAttempts: name.length * 10 } } });
      await book.bind({ ...place, policy: name });
    }
    const found = (topic: string, tag?: string) => book.policyFor(topic, tag)!.limits.maxAttempts;
    expect([found("o", "t"), found("o"), found("o", "x"), found("x", "t"), found("x")]).toEqual([40, 50, 50, 30, 30]);
    await book.unbind({});
    await book.unbind({ tag: "t" });
    expect(book.policyFor("x", "t")).toBeUndefined();
  });

  it("a group finds those for itself and for all, for its topics, with a tag that changes with them alone", async () => {
    await book.put("a", fixed("1s"));
    await book.put("b", fixed("2s"));
    await book.bind({ group: "g", topic: "o", tag: "t", policy: "a" });
    await book.bind({ group: "other", policy: "b" });
    await book.bind({ topic: "elsewhere", policy: "b" });
    await book.bind({ policy: "b" });
    const first = book.boundTo("g", ["o", "p"]);
    expect(first.bound).toEqual([
      { topic: "o", messageTag: "t", name: "a", version: 1, policy: fixed("1s").policy },
      { name: "b", version: 1, policy: fixed("2s").policy },
    ]);
    await book.put("unbound", fixed("9s"));
    await book.bind({ group: "other", topic: "o", policy: "a" });
    expect(book.boundTo("g", ["o", "p"]).tag).toBe(first.tag);
    await book.put("b", fixed("3s"));
    expect(book.boundTo("g", ["o", "p"]).tag).not.toBe(first.tag);
    expect(openBook(documents).boundTo("g", ["o"])).toMatchObject({ bound: [] });
  });

  it("RT-16 a change elsewhere holds here at the next look, which comes every second", async () => {
    await book.put("p", { policy: { limits: { maxAttempts: 5 } } });
    await book.bind({ topic: "o", policy: "p" });
    expect(elsewhere.policyFor("o", undefined)).toBeUndefined();
    expect(await elsewhere.runOnce()).toBeLessThanOrEqual(1_000);
    expect(elsewhere.policyFor("o", undefined)?.limits.maxAttempts).toBe(5);
    await book.put("p", { policy: { limits: { maxAttempts: 6 } } });
    await elsewhere.runOnce();
    expect(elsewhere.policyFor("o", undefined)?.limits.maxAttempts).toBe(6);
    await book.remove("p", { withBindings: true });
    await elsewhere.runOnce();
    expect(elsewhere.policyFor("o", undefined)).toBeUndefined();
  });

  it("a look reads one document while nothing has changed", async () => {
    await book.put("p", fixed("1s"));
    await book.bind({ policy: "p" });
    await elsewhere.runOnce();
    const reads: string[] = [];
    const read = documents.read.bind(documents);
    documents.read = (kind, name) => {
      reads.push(kind);
      return read(kind, name);
    };
    for (let i = 0; i < 3; i++) await elsewhere.runOnce();
    expect(reads).toEqual(["policy-book", "policy-book", "policy-book"]);
  });

  it("one that this program does not understand is left out, and said aloud", async () => {
    await book.put("p", fixed("1s"));
    await book.bind({ topic: "o", policy: "p" });
    await book.bind({ policy: "default" });
    await documents.write("policy", "p@1", JSON.stringify({ policy: { future: true }, at: "", previous: 0 }), 1);
    await elsewhere.runOnce();
    expect(elsewhere.policyFor("o", undefined)).toEqual(presets[0]!.policy);
    expect(errors).toEqual([expect.objectContaining({ policy: "p@1" })]);
  });
});

describe("a circle of dead topics", () => {
  const circle = (text: string) => refused("policy_circle", text);

  it("of one policy with itself is refused", async () => {
    await book.put("a", deadTo("o"));
    await expect(book.bind({ topic: "o", policy: "a" })).rejects.toEqual(
      circle("a sends its dead to o, where a decides (bound to topic o)"),
    );
    expect(await book.bindings()).toEqual({ bindings: [] });
  });

  it("over several policies is refused and spelled out, whichever change would close it", async () => {
    await book.put("a", deadTo("o-dead"));
    await book.put("b", deadTo("o-deader"));
    await book.put("c", fixed("1s"));
    await book.bind({ topic: "o", policy: "a" });
    await book.bind({ group: "g", topic: "o-dead", policy: "b" });
    await book.bind({ topic: "o-deader", policy: "c" });
    await expect(book.put("c", deadTo("o"))).rejects.toEqual(
      circle(
        "b sends its dead to o-deader, where c decides (bound to topic o-deader); " +
          "c sends its dead to o, where a decides (bound to topic o); " +
          "a sends its dead to o-dead, where b decides (bound to group g, topic o-dead). Bind one of these topics",
      ),
    );
    expect(await book.get("c")).toMatchObject({ version: 1 });
    expect((await book.versions("c")).versions).toHaveLength(1);
    // The same with the last binding instead of the last policy.
    await book.unbind({ topic: "o" });
    await book.put("c", deadTo("o"));
    await expect(book.bind({ topic: "o", policy: "a" })).rejects.toEqual(
      circle("c sends its dead to o, where a decides"),
    );
  });

  it("closes over the binding for everything too, until the dead topic has one of its own", async () => {
    await book.put("all", deadTo("graveyard"));
    await expect(book.bind({ policy: "all" })).rejects.toEqual(circle("bound to everything"));
    await book.bind({ topic: "graveyard", policy: "default" });
    await book.bind({ policy: "all" });
    await expect(book.unbind({ topic: "graveyard" })).rejects.toEqual(circle("bound to everything"));
  });

  it("a chain that ends is none", async () => {
    await book.put("a", deadTo("x"));
    await book.put("b", deadTo("y"));
    await book.bind({ topic: "o", policy: "a" });
    await book.bind({ topic: "p", policy: "a" });
    await book.bind({ topic: "x", policy: "b" });
    expect((await book.bind({ topic: "y", policy: "default" })).bindings).toHaveLength(4);
  });
});
