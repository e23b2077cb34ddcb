import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

/**
 * The scripts, one per verb, as Redis gets them. Lua in Redis has no modules, so `--@use a, b` in a script stands for
 * the files a.part.lua and b.part.lua, put in its place. Nothing else is changed: what Redis runs can be read in lua/.
 */
export type RedisScript = { readonly name: string; readonly text: string; readonly sha: string };

const read = (file: string): string => readFileSync(new URL(`./lua/${file}.lua`, import.meta.url), "utf8");

const load = (name: string): RedisScript => {
  const text = read(name).replace(/^--@use (.+)$/m, (_line, parts: string) =>
    parts
      .split(", ")
      .map((part) => read(`${part}.part`))
      .join("\n"),
  );
  return { name, text, sha: createHash("sha1").update(text).digest("hex") };
};

export const scripts = {
  schedule: load("schedule"),
  bury: load("bury"),
  cancel: load("cancel"),
  reschedule: load("reschedule"),
  get: load("get"),
  dead: load("dead"),
  discard: load("discard"),
  stats: load("stats"),
  acquire: load("acquire"),
  renew: load("renew"),
  release: load("release"),
  recover: load("recover"),
  near: load("near"),
  count: load("count"),
  claim: load("claim"),
  settle: load("settle"),
  heartbeat: load("heartbeat"),
  leave: load("leave"),
  documentWrite: load("document-write"),
  documentRemove: load("document-remove"),
  documentList: load("document-list"),
} as const;
