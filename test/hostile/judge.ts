import { reservedPropertyNames } from "../../src/message/reserved-properties.ts";
import type { ScheduleRequest } from "../../src/wire/http.ts";

/**
 * Says whether a request is a valid message, written a second time and in another way (regular expressions, Date,
 * TextEncoder; slow and short) so that a mistake in admit does not hide behind itself.
 */

const utf8 = new TextEncoder();
const size = (text: string) => utf8.encode(text).length;
const isText = (value: unknown): value is string =>
  typeof value === "string" && !/[\p{Cc}]/u.test(value) && !/\p{Surrogate}/u.test(value);
const within = (value: unknown, max: number): boolean => isText(value) && value.length > 0 && size(value) <= max;
const isWhole = (value: unknown, min: number, max: number): boolean =>
  Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max;

const day = 86_400_000;
const levels = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h".split(" ");
const unitMs: Record<string, number> = { w: 7 * day, d: day, h: 3_600_000, m: 60_000, s: 1_000, ms: 1 };

/** Milliseconds, rounded up; undefined when it is no duration. */
export const judgeDuration = (value: unknown): number | undefined => {
  if (typeof value === "number") return isWhole(value, 0, Number.MAX_SAFE_INTEGER) ? value : undefined;
  if (typeof value !== "string" || value.length > 64) return undefined;
  const level = /^level:([1-9]\d?)$/.exec(value);
  if (level !== null) return judgeDuration(levels[Number(level[1]) - 1]);
  const iso =
    /^P(?=.)(\d+(?:\.\d+)?W)?(\d+(?:\.\d+)?D)?(?:T(?=.)(\d+(?:\.\d+)?H)?(\d+(?:\.\d+)?M)?(\d+(?:\.\d+)?S)?)?$/;
  const short =
    /^(?=.)(\d+(?:\.\d+)?w)?(\d+(?:\.\d+)?d)?(\d+(?:\.\d+)?h)?(\d+(?:\.\d+)?m(?!s))?(\d+(?:\.\d+)?s)?(\d+(?:\.\d+)?ms)?$/;
  const match = iso.exec(value) ?? short.exec(value);
  if (match === null) return undefined;
  const parts = match.slice(1).filter((part) => part !== undefined);
  if (parts.slice(0, -1).some((part) => part.includes("."))) return undefined;
  if (parts.some((part) => !/^\d{1,15}(\.\d{1,9})?[a-zA-Z]+$/.test(part))) return undefined;
  let nanos = 0n;
  for (const part of parts) {
    const [, whole, fraction = "", unit] = /^(\d+)(?:\.(\d+))?([a-zA-Z]+)$/.exec(part)!;
    nanos += BigInt(whole! + fraction.padEnd(9, "0")) * BigInt(unitMs[unit!.toLowerCase()]!);
  }
  return Number((nanos + 999_999_999n) / 1_000_000_000n);
};

/** Epoch milliseconds, rounded up; undefined when it is no instant. */
export const judgeInstant = (value: unknown): number | undefined => {
  if (typeof value === "number") return isWhole(value, 100_000_000_000, 253_402_300_799_999) ? value : undefined;
  if (typeof value !== "string") return undefined;
  const match = /^(\d{4}-\d\d-\d\d)[Tt](\d\d:[0-5]\d:[0-5]\d)(?:\.(\d{1,9}))?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$/.exec(
    value,
  );
  if (match === null) return undefined;
  const [, date, time, fraction = "", offset] = match;
  const plain = Date.parse(`${date}T00:00:00Z`);
  if (Number.isNaN(plain) || new Date(plain).toISOString().slice(0, 10) !== date || Number(time!.slice(0, 2)) > 23)
    return undefined;
  const seconds = Date.parse(`${date}T${time}${offset!.toUpperCase()}`);
  const instant = seconds + Math.ceil(Number(fraction.padEnd(9, "0")) / 1_000_000);
  return instant >= 0 && instant <= 253_402_300_799_999 ? instant : undefined;
};

export const judgeMessage = (request: unknown, nowMs: number): boolean => {
  if (typeof request !== "object" || request === null || Array.isArray(request)) return false;
  const known =
    "topic body bodyBase64 tag keys properties messageGroup deliverAt delay key onConflict expireAfter retry waitForTopic";
  const r = request as { readonly [Name in keyof ScheduleRequest]?: unknown };
  const has = (name: string) => Object.hasOwn(r, name);
  if (Object.keys(r).some((name) => name === "" || !known.split(" ").includes(name))) return false;

  const { topic } = r;
  if (typeof topic !== "string" || !/^[%|a-zA-Z0-9_-]{1,127}$/.test(topic)) return false;
  if (
    /^(rmq_sys_.*|TBW102|SCHEDULE_TOPIC_XXXX(_V2)?|BenchmarkTest|RMQ_SYS_(TRACE|TRANS_HALF|TRANS_OP_HALF)_TOPIC|TRANS_CHECK_MAX_TIME_TOPIC|SELF_TEST_TOPIC|OFFSET_MOVED_EVENT)$/.test(
      topic,
    )
  )
    return false;

  if (has("body") === has("bodyBase64")) return false;
  if (has("body")) {
    if (typeof r.body !== "string" || /\p{Surrogate}/u.test(r.body)) return false;
    if (size(r.body) < 1 || size(r.body) > 4_000_000) return false;
  } else {
    const text = r.bodyBase64;
    if (typeof text !== "string" || text.length === 0 || text.length % 4 !== 0) return false;
    if (!/^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$/.test(text)) return false;
    if (Buffer.from(text, "base64").length > 4_000_000) return false;
  }

  let head = 0;
  if (has("tag")) {
    if (!within(r.tag, 127) || /^\s*$|\|/.test(r.tag as string)) return false;
    head += size(r.tag as string);
  }
  if (has("keys")) {
    const { keys } = r;
    if (!Array.isArray(keys) || keys.length > 32 || !keys.every((key) => within(key, 256) && !/\s/.test(key)))
      return false;
    head += keys.reduce((sum, key) => sum + size(key), 0);
  }
  if (has("properties")) {
    const { properties } = r;
    if (typeof properties !== "object" || properties === null || Array.isArray(properties)) return false;
    const entries = Object.entries(properties);
    if (entries.length > 125) return false;
    for (const [name, value] of entries) {
      if (!isText(name) || name === "" || !isText(value) || value === "") return false;
      if (reservedPropertyNames.includes(name) || /^(TIMER_|__RMQ\.|ESC_)/.test(name)) return false;
      if (["__proto__", "constructor", "prototype"].includes(name)) return false;
      head += size(name) + size(value);
    }
  }
  if (head > 16 * 1024 - 128) return false;

  for (const [name, max] of [
    ["key", 256],
    ["messageGroup", 63],
  ] as const) {
    if (has(name) && (!within(r[name], max) || /^\s*$/.test(r[name] as string))) return false;
  }
  if (has("onConflict") && (!["keep", "replace"].includes(r.onConflict as string) || !has("key"))) return false;
  if (has("waitForTopic") && typeof r.waitForTopic !== "boolean") return false;

  if (has("deliverAt") === has("delay")) return false;
  const wait = has("delay") ? judgeDuration(r.delay) : undefined;
  const dueMs = has("delay") ? (wait === undefined ? undefined : nowMs + wait) : judgeInstant(r.deliverAt);
  if (dueMs === undefined || dueMs > nowMs + 365 * day) return false;
  if (has("expireAfter")) {
    const given = r.expireAfter;
    const length = judgeDuration(given);
    if (length !== undefined && length > 253_402_300_799_999) return false;
    const end = length === undefined ? (typeof given === "string" ? judgeInstant(given) : undefined) : dueMs + length;
    if (end === undefined || end <= dueMs || end <= nowMs) return false;
  }
  if (has("retry")) {
    const { retry } = r;
    if (typeof retry !== "object" || retry === null || Array.isArray(retry)) return false;
    const { maxAttempts = 1, initial = 1000, max, multiplier = 1, ...rest } = retry as Record<string, unknown>;
    if (Object.keys(rest).length > 0 || !isWhole(maxAttempts, 1, 1000)) return false;
    if (typeof multiplier !== "number" || !(multiplier >= 1 && multiplier <= 10)) return false;
    const first = judgeDuration(initial);
    const longest = max === undefined ? 7 * day : judgeDuration(max);
    if (first === undefined || longest === undefined || first < 1 || longest < first || longest > 7 * day) return false;
  }
  return true;
};
