import { afterEach, describe, expect, it } from "vitest";
import { type DocumentStore, documentLimits, type StoredDocument } from "./document-store.port.ts";

/**
 * The manual of the document store, to be run: an adapter's test calls it with a factory of fresh, empty stores. `other`
 * is a second way into the same documents, where the adapter has one; `reopen` opens them again after everything that
 * was in memory is gone, where they outlive it.
 */
export type DocumentStoreSubject = {
  readonly store: DocumentStore;
  readonly other?: DocumentStore;
  readonly reopen?: () => Promise<DocumentStore>;
  readonly close: () => Promise<void>;
};

export const documentStoreContract = (name: string, factory: () => Promise<DocumentStoreSubject>): void => {
  describe(`document store: ${name}`, () => {
    let subject: DocumentStoreSubject | undefined;
    const fresh = async (): Promise<DocumentStoreSubject & { readonly other: DocumentStore }> => {
      subject = await factory();
      return { ...subject, other: subject.other ?? subject.store };
    };
    afterEach(async () => {
      await subject?.close();
      subject = undefined;
    });

    it("answers what was written, with a revision that counts its writes", async () => {
      const { store, other } = await fresh();
      expect(await store.read("policy", "orders")).toBeUndefined();
      expect(await store.write("policy", "orders", '{"a":1}', 0)).toEqual({ outcome: "written", revision: 1 });
      expect(await other.read("policy", "orders")).toEqual({ name: "orders", revision: 1, body: '{"a":1}' });
      expect(await other.write("policy", "orders", '{"a":2}', 1)).toEqual({ outcome: "written", revision: 2 });
      expect(await store.read("policy", "orders")).toEqual({ name: "orders", revision: 2, body: '{"a":2}' });
    });

    it("changes nothing where the revision is not the expected one, and answers what stands there", async () => {
      const { store } = await fresh();
      expect(await store.write("policy", "orders", "late", 3)).toEqual({ outcome: "conflict", current: undefined });
      expect(await store.read("policy", "orders")).toBeUndefined();
      await store.write("policy", "orders", "one", 0);
      await store.write("policy", "orders", "two", 1);
      const current = { name: "orders", revision: 2, body: "two" };
      for (const expected of [0, 1, 3]) {
        expect(await store.write("policy", "orders", "mine", expected)).toEqual({ outcome: "conflict", current });
      }
      expect(await store.read("policy", "orders")).toEqual(current);
    });

    it("removes only the expected revision, and a later document of that name begins at 1", async () => {
      const { store, other } = await fresh();
      expect(await store.remove("policy", "orders", 0)).toBe(false);
      await store.write("policy", "orders", "one", 0);
      await store.write("policy", "orders", "two", 1);
      expect(await store.remove("policy", "orders", 1)).toBe(false);
      expect(await store.remove("policy", "orders", 0)).toBe(false);
      expect(await other.remove("policy", "orders", 2)).toBe(true);
      expect(await store.read("policy", "orders")).toBeUndefined();
      expect(await store.list("policy", { limit: 10 })).toEqual([]);
      expect(await store.remove("policy", "orders", 2)).toBe(false);
      expect(await store.write("policy", "orders", "three", 2)).toEqual({ outcome: "conflict", current: undefined });
      expect(await store.write("policy", "orders", "three", 0)).toEqual({ outcome: "written", revision: 1 });
    });

    it("keeps kinds apart", async () => {
      const { store } = await fresh();
      await store.write("breaker", "orders", "b", 0);
      await store.write("breaker-x", "orders", "x", 0);
      expect(await store.read("policy", "orders")).toBeUndefined();
      expect(await store.remove("policy", "orders", 1)).toBe(false);
      expect(await store.list("breaker", { limit: 10 })).toEqual([{ name: "orders", revision: 1, body: "b" }]);
    });

    it("keeps any text whole: empty, with every kind of character, as large as allowed", async () => {
      const { store, other } = await fresh();
      const bodies = ["", "\0\n\r\t'\"\\%_;--", "né 漢字 😀", "x".repeat(documentLimits.bodyBytesMax)];
      for (const [i, body] of bodies.entries()) {
        await store.write("text", `b${i}`, body, 0);
        expect((await other.read("text", `b${i}`))?.body).toBe(body);
      }
    });

    it("takes every name that is allowed for itself, and no other for it", async () => {
      const { store } = await fresh();
      const names = [
        "a",
        "A",
        "a%",
        "a_",
        "a*",
        "a?",
        "a[b]",
        "a\\",
        "a'",
        'a"',
        "a`",
        "{a}",
        "a:1",
        "a/b",
        "a@1",
        "~",
      ];
      names.push("z".repeat(255));
      for (const name of names) {
        expect(await store.write("name", name, `of ${name}`, 0), name).toMatchObject({ outcome: "written" });
      }
      for (const name of names) expect((await store.read("name", name))?.body).toBe(`of ${name}`);
      expect((await store.list("name", { limit: 100 })).map(({ name }) => name)).toEqual([...names].sort());
    });

    it("lists by name in order of their bytes, from a prefix, after a name, up to a limit", async () => {
      const { store } = await fresh();
      const names = ["b", "a", "a%b", "ab", "aB", "a_", "a*", "a~", "a!", "B", "~"];
      for (const name of names) await store.write("list", name, name, 0);
      const list = async (options: { prefix?: string; after?: string; limit?: number } = {}) =>
        (await store.list("list", { limit: 100, ...options })).map(({ name }) => name);
      expect(await list()).toEqual(["B", "a", "a!", "a%b", "a*", "aB", "a_", "ab", "a~", "b", "~"]);
      expect(await list({ prefix: "a" })).toEqual(["a", "a!", "a%b", "a*", "aB", "a_", "ab", "a~"]);
      expect(await list({ prefix: "a%" })).toEqual(["a%b"]);
      expect(await list({ prefix: "a_" })).toEqual(["a_"]);
      expect(await list({ prefix: "a*" })).toEqual(["a*"]);
      expect(await list({ prefix: "a~" })).toEqual(["a~"]);
      expect(await list({ prefix: "~" })).toEqual(["~"]);
      expect(await list({ prefix: "c" })).toEqual([]);
      expect(await list({ after: "ab" })).toEqual(["a~", "b", "~"]);
      expect(await list({ after: "aZ" })).toEqual(["a_", "ab", "a~", "b", "~"]);
      expect(await list({ prefix: "a", after: "ab" })).toEqual(["a~"]);
      expect(await list({ prefix: "b", after: "a" })).toEqual(["b"]);
      expect(await list({ prefix: "a", after: "b" })).toEqual([]);
      expect(await list({ prefix: "a", after: "a", limit: 2 })).toEqual(["a!", "a%b"]);
      expect(await list({ after: "~" })).toEqual([]);
    });

    it("answers as many as were asked for, however large they are, and pages come together without gap or repeat", async () => {
      const { store } = await fresh();
      // 40 of them are 10 MB: more than one reply of any store should carry.
      const large = "x".repeat(documentLimits.bodyBytesMax);
      const names = Array.from({ length: 40 }, (_, i) => `n${String(i).padStart(3, "0")}`);
      for (const name of names) await store.write("large", name, large, 0);
      const whole = await store.list("large", { limit: documentLimits.listMax });
      expect(whole.map(({ name }) => name)).toEqual(names);
      expect(whole.every(({ body }) => body === large)).toBe(true);
      const paged: StoredDocument[] = [];
      for (let after = ""; ; ) {
        const page = await store.list("large", { after, limit: 7 });
        paged.push(...page);
        if (page.length < 7) break;
        after = page.at(-1)!.name;
      }
      expect(paged.map(({ name }) => name)).toEqual(names);
    });

    it("lets exactly one of many writers of one revision through", async () => {
      const { store, other } = await fresh();
      for (let expected = 0; expected < 3; expected++) {
        const results = await Promise.all(
          Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? store : other).write("race", "one", `w${i}`, expected)),
        );
        const winners = results.flatMap(({ outcome }, i) => (outcome === "written" ? [i] : []));
        expect(winners).toHaveLength(1);
        expect(await store.read("race", "one")).toEqual({
          name: "one",
          revision: expected + 1,
          body: `w${winners[0]}`,
        });
      }
      const removed = await Promise.all([store, other, store, other].map((way) => way.remove("race", "one", 3)));
      expect(removed.filter(Boolean)).toHaveLength(1);
    });

    it("loses no count when many add to one number by reading and writing again", async () => {
      const { store, other } = await fresh();
      const add = async (way: DocumentStore): Promise<void> => {
        let current = await way.read("race", "sum");
        for (;;) {
          const body = String(Number(current?.body ?? "0") + 1);
          const result = await way.write("race", "sum", body, current?.revision ?? 0);
          if (result.outcome === "written") return;
          current = result.current;
        }
      };
      await Promise.all(Array.from({ length: 24 }, (_, i) => add(i % 2 === 0 ? store : other)));
      expect(await store.read("race", "sum")).toEqual({ name: "sum", revision: 24, body: "24" });
    });

    it("takes a kind, a name or a size beyond the limits for the caller's bug, and stores nothing", async () => {
      const { store } = await fresh();
      for (const name of ["", "two words", "é", "x".repeat(256), "a\n"]) {
        await expect(store.write("kind", name, "b", 0)).rejects.toThrow(/no name/);
        await expect(store.read("kind", name)).rejects.toThrow(/no name/);
        await expect(store.remove("kind", name, 1)).rejects.toThrow(/no name/);
      }
      for (const kind of ["", "Kind", "a:b", "-a", "k".repeat(33)]) {
        await expect(store.write(kind, "n", "b", 0)).rejects.toThrow(/no kind/);
        await expect(store.list(kind, { limit: 1 })).rejects.toThrow(/no kind/);
      }
      const tooLong = "é".repeat(documentLimits.bodyBytesMax / 2 + 1);
      await expect(store.write("kind", "n", tooLong, 0)).rejects.toThrow(/bytes/);
      for (const limit of [0, documentLimits.listMax + 1]) {
        await expect(store.list("kind", { limit })).rejects.toThrow(/allowed/);
      }
      expect(await store.list("kind", { limit: 10 })).toEqual([]);
    });

    it("still has them, with their revisions, after it was opened again", async ({ skip }) => {
      const { store, reopen } = await fresh();
      if (reopen === undefined) return skip("does not outlive its process, and says so");
      await store.write("policy", "kept", "one", 0);
      await store.write("policy", "kept", "two", 1);
      await store.write("policy", "gone", "x", 0);
      await store.remove("policy", "gone", 1);
      const again = await reopen();
      expect(await again.list("policy", { limit: 10 })).toEqual([{ name: "kept", revision: 2, body: "two" }]);
      expect(await again.write("policy", "kept", "three", 2)).toEqual({ outcome: "written", revision: 3 });
    });
  });
};
