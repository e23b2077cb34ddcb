import { gzipSync } from "node:zlib";
import type { ErrorCode } from "../../src/message/errors.ts";
import { reservedPropertyNames, reservedPropertyPrefixes } from "../../src/message/reserved-properties.ts";

/**
 * Inputs that must be refused, each with the code and the field that the answer must carry. Partly generated field by
 * field, partly written by hand; two lists: messages that are well-formed JSON (tried alone, in an array and as lines)
 * and requests that are broken in other ways.
 */

export type HostileMessage = {
  readonly name: string;
  /** A JSON text; what JSON.stringify could not write (1e400, "\ud800", a name twice) is written by hand. */
  readonly json: string;
  readonly code: ErrorCode;
  readonly field?: string;
};

export type HostileRequest = {
  readonly name: string;
  readonly method: "POST" | "PATCH" | "DELETE" | "GET";
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly payload?: Buffer | string;
  readonly code: ErrorCode;
  readonly field?: string;
};

export const least = { topic: "orders", body: "hello", delay: "30m" };

/** `least` with some fields given as JSON text, or taken away. */
const message = (fields: Readonly<Record<string, string | undefined>>): string => {
  const all: Record<string, string | undefined> = {
    topic: '"orders"',
    body: '"hello"',
    delay: '"30m"',
    ...fields,
  };
  const parts = Object.entries(all).filter(([, text]) => text !== undefined);
  return `{${parts.map(([name, text]) => `${JSON.stringify(name)}:${text}`).join(",")}}`;
};

const messages: HostileMessage[] = [];
const refuse = (
  name: string,
  fields: Readonly<Record<string, string | undefined>>,
  code: ErrorCode,
  field?: string,
): void => {
  messages.push({ name, json: message(fields), code, ...(field === undefined ? {} : { field }) });
};
const j = JSON.stringify;

// --- every field with every wrong type --------------------------------------------------------------------------

const values = {
  null: "null",
  true: "true",
  number: "7",
  fraction: "1.5",
  negative: "-1",
  infinite: "1e400",
  tiny: "1e-400",
  text: '"x"',
  empty: '""',
  array: "[]",
  nested: '[["a"]]',
  object: "{}",
  toString: '{"toString":1,"length":3}',
} as const;
type ValueName = keyof typeof values;

const textFields: Record<string, readonly ValueName[]> = {
  topic: ["null", "true", "number", "fraction", "negative", "infinite", "array", "nested", "object", "toString"],
  body: ["null", "true", "number", "fraction", "negative", "infinite", "array", "nested", "object", "toString"],
  tag: ["null", "true", "number", "fraction", "infinite", "empty", "array", "nested", "object", "toString"],
  key: ["null", "true", "number", "fraction", "infinite", "empty", "array", "nested", "object", "toString"],
  messageGroup: ["null", "true", "number", "fraction", "infinite", "empty", "array", "nested", "object", "toString"],
  onConflict: ["null", "true", "number", "text", "empty", "array", "object"],
  waitForTopic: ["null", "number", "text", "empty", "array", "object"],
  keys: ["null", "true", "number", "text", "empty", "object", "toString"],
  properties: ["null", "true", "number", "text", "empty", "array", "nested"],
  retry: ["null", "true", "number", "text", "empty", "array", "nested"],
};
for (const [field, wrong] of Object.entries(textFields)) {
  for (const value of wrong) {
    refuse(`${field} is ${value}`, { key: '"k"', [field]: values[value] }, "invalid_field", field);
  }
}
for (const value of ["null", "true", "array", "nested", "object", "toString"] as const) {
  refuse(`delay is ${value}`, { delay: values[value] }, "invalid_field", "delay");
  refuse(`deliverAt is ${value}`, { delay: undefined, deliverAt: values[value] }, "invalid_field", "deliverAt");
  refuse(`expireAfter is ${value}`, { expireAfter: values[value] }, "invalid_field", "expireAfter");
  refuse(`bodyBase64 is ${value}`, { body: undefined, bodyBase64: values[value] }, "invalid_field", "bodyBase64");
  refuse(`keys[0] is ${value}`, { keys: `[${values[value]}]` }, "invalid_field", "keys[0]");
  refuse(`keys[1] is ${value}`, { keys: `["a",${values[value]}]` }, "invalid_field", "keys[1]");
  refuse(`properties.p is ${value}`, { properties: `{"p":${values[value]}}` }, "invalid_field", "properties.p");
  for (const part of ["maxAttempts", "initial", "max", "multiplier"]) {
    refuse(`retry.${part} is ${value}`, { retry: `{"${part}":${values[value]}}` }, "invalid_field", `retry.${part}`);
  }
}
refuse("keys[0] is a number", { keys: "[7]" }, "invalid_field", "keys[0]");
refuse("keys[0] is empty", { keys: '[""]' }, "invalid_field", "keys[0]");
refuse("properties.p is a number", { properties: '{"p":7}' }, "invalid_field", "properties.p");
refuse("properties.p is empty", { properties: '{"p":""}' }, "invalid_field", "properties.p");
refuse("a property without a name", { properties: '{"":"x"}' }, "invalid_field", "properties");

// --- missing, both, unknown -------------------------------------------------------------------------------------

refuse("no topic", { topic: undefined }, "missing_field", "topic");
refuse("an empty topic", { topic: '""' }, "invalid_topic", "topic");
refuse("no body", { body: undefined }, "missing_field", "body");
refuse("an empty body", { body: '""' }, "empty_body", "body");
refuse("an empty bodyBase64", { body: undefined, bodyBase64: '""' }, "empty_body", "bodyBase64");
refuse("both bodies", { bodyBase64: '"AA=="' }, "invalid_field", "bodyBase64");
refuse("no time", { delay: undefined }, "time_missing", "deliverAt");
refuse("both times", { deliverAt: "1800000000000" }, "time_ambiguous", "delay");
refuse("both times, one null", { deliverAt: "null" }, "time_ambiguous", "delay");
refuse("onConflict without key", { onConflict: '"keep"' }, "invalid_field", "onConflict");
refuse("replace without key", { onConflict: '"replace"' }, "invalid_field", "onConflict");
for (const name of [
  "Topic",
  "topic ",
  "delayMs",
  "deliver_at",
  "tenant",
  "id",
  "state",
  "attempt",
  "acceptedAtMs",
  "toString",
  "hasOwnProperty",
  "__defineGetter__",
  "constructor",
  "prototype",
  "length",
  "0",
]) {
  refuse(`the unknown field ${name}`, { [name]: '"x"' }, "unknown_field", name);
}
refuse("an unknown field without a name", { "": "1" }, "unknown_field", "");
refuse("an unknown field of 100 KB", { ["x".repeat(100_000)]: "1" }, "unknown_field", `${"x".repeat(64)}…`);
refuse("an unknown field with a control character", { "a\nb": "1" }, "unknown_field", "a\\nb");
refuse("retry with an unknown field", { retry: '{"attempts":3}' }, "unknown_field", "retry.attempts");

for (const json of ["null", "true", "7", '"text"', "[]", "[{}]", "1e400", '""', "-0"]) {
  messages.push({ name: `the request is ${json}`, json, code: "invalid_request" });
}
messages.push({ name: "an empty object", json: "{}", code: "missing_field", field: "topic" });

// --- too long, too many -----------------------------------------------------------------------------------------

const mega = "a".repeat(1_000_000);
for (const [length, text] of [
  ["128", "a".repeat(128)],
  ["1 MB", mega],
] as const) {
  refuse(`a topic of ${length}`, { topic: j(text) }, "invalid_topic", "topic");
  refuse(`a tag of ${length}`, { tag: j(text) }, "invalid_field", "tag");
  refuse(`a message group of ${length}`, { messageGroup: j(text) }, "invalid_field", "messageGroup");
}
for (const [length, text] of [
  ["257", "a".repeat(257)],
  ["129 wide", "é".repeat(129)],
  ["1 MB", mega],
] as const) {
  refuse(`a key of ${length}`, { key: j(text) }, "invalid_field", "key");
  refuse(`keys[0] of ${length}`, { keys: j([text]) }, "invalid_field", "keys[0]");
}
refuse("33 keys", { keys: j(Array(33).fill("k")) }, "invalid_field", "keys");
refuse("100,000 keys", { keys: j(Array(100_000).fill("k")) }, "invalid_field", "keys");
refuse("126 properties", { properties: j(numbered(126)) }, "too_many_properties", "properties");
refuse("50,000 properties", { properties: j(numbered(50_000)) }, "too_many_properties", "properties");
refuse("a property of 1 MB", { properties: j({ p: mega }) }, "properties_too_large", "properties.p");
refuse(
  "a property name of 1 MB",
  { properties: j({ [mega]: "x" }) },
  "properties_too_large",
  `properties.${"a".repeat(64)}…`,
);
refuse(
  "16 KiB in two properties",
  { properties: j({ a: "x".repeat(9_000), b: "x".repeat(9_000) }) },
  "properties_too_large",
  "properties.b",
);
refuse("a body above the limit", { body: j("a".repeat(4_000_001)) }, "body_too_large", "body");
refuse("a wide body above the limit", { body: j("é".repeat(2_000_001)) }, "body_too_large", "body");
refuse(
  "bytes above the limit",
  { body: undefined, bodyBase64: j(Buffer.alloc(4_000_001).toString("base64")) },
  "body_too_large",
  "bodyBase64",
);

function numbered(count: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`p${i}`, "x"]));
}

// --- characters -------------------------------------------------------------------------------------------------

const controls = ["\\u0000", "\\u0001", "\\u0002", "\\n", "\\r", "\\t", "\\u001b", "\\u007f", "\\u0080", "\\u009f"];
const halves = ["\\ud800", "\\udfff", "\\ud83dx", "x\\ude00", "\\ude00\\ud83d"];
for (const text of [...controls, ...halves]) {
  const half = halves.includes(text);
  const code = half ? "invalid_utf8" : "invalid_field";
  for (const field of ["tag", "key", "messageGroup"]) {
    refuse(`${field} with ${text}`, { [field]: `"a${text}b"` }, code, field);
  }
  refuse(`keys[0] with ${text}`, { keys: `["a${text}b"]` }, code, "keys[0]");
  refuse(`a property with ${text}`, { properties: `{"p":"a${text}b"}` }, code, "properties.p");
  refuse(`topic with ${text}`, { topic: `"a${text}b"` }, "invalid_topic", "topic");
  if (half) refuse(`body with ${text}`, { body: `"a${text}b"` }, "invalid_utf8", "body");
}
refuse(
  "a property name with a control character",
  { properties: '{"a\\u0001b":"x"}' },
  "invalid_field",
  "properties.a\\u0001b",
);
refuse("a property name with half a pair", { properties: '{"a\\ud800":"x"}' }, "invalid_utf8", "properties.a\\ud800");
for (const topic of [
  " orders",
  "orders ",
  "a b",
  "a.b",
  "a/b",
  "../../etc/passwd",
  "a:b",
  "a{1}",
  "té",
  "主题",
  "a*",
  "a\\\\b",
  "a\\u2028b",
  "$SYS",
]) {
  refuse(`the topic ${topic}`, { topic: `"${topic}"` }, "invalid_topic", "topic");
}
for (const topic of [
  "TBW102",
  "SCHEDULE_TOPIC_XXXX",
  "RMQ_SYS_TRANS_HALF_TOPIC",
  "RMQ_SYS_TRACE_TOPIC",
  "SELF_TEST_TOPIC",
  "OFFSET_MOVED_EVENT",
  "TRANS_CHECK_MAX_TIME_TOPIC",
  "BenchmarkTest",
  "rmq_sys_wheel_timer",
  "rmq_sys_",
]) {
  refuse(`the topic ${topic}, RocketMQ's own`, { topic: j(topic) }, "invalid_topic", "topic");
}
for (const tag of ["|", "a|b", "a || b", " ", "\\u3000", "\\u00a0\\u2003"]) {
  refuse(`the tag "${tag}"`, { tag: `"${tag}"` }, "invalid_field", "tag");
}
for (const space of [" ", "\\u00a0", "\\u2003", "\\u3000", "\\ufeff", "\\u2028"]) {
  refuse(`keys[0] with the space ${space}`, { keys: `["a${space}b"]` }, "invalid_field", "keys[0]");
}
refuse("a blank key", { key: '"   "' }, "invalid_field", "key");
refuse("a blank message group", { messageGroup: '" "' }, "invalid_field", "messageGroup");

// --- names ------------------------------------------------------------------------------------------------------

for (const name of [
  ...reservedPropertyNames,
  ...reservedPropertyPrefixes,
  "TIMER_DELIVER_MS",
  "__RMQ.TRANSIENT.X",
  "ESC_ID",
  "ESC_TOPIC",
]) {
  refuse(`the property ${name}`, { properties: j({ [name]: "x" }) }, "reserved_property", `properties.${name}`);
}
refuse("the property constructor", { properties: '{"constructor":"x"}' }, "invalid_field", "properties.constructor");
refuse("the property prototype", { properties: '{"prototype":"x"}' }, "invalid_field", "properties.prototype");
const poisoned: [string, string][] = [
  ["__proto__ in the message", message({ __proto__x: "1" }).replace("__proto__x", "__proto__")],
  ["__proto__ with an object", '{"__proto__":{"topic":"orders","body":"x","delay":1}}'],
  ["__proto__ escaped", message({ x: "1" }).replace('"x"', '"\\u005f_proto__"')],
  ["__proto__ as a property", message({ properties: '{"__proto__":"x"}' })],
  ["__proto__ deep inside", message({ retry: '{"max":{"a":[{"__proto__":{}}]}}' })],
  ["constructor.prototype", '{"constructor":{"prototype":{"x":1}}}'],
  ["constructor.prototype as a property", message({ properties: '{"constructor":{"prototype":{}}}' })],
];
for (const [name, json] of poisoned) messages.push({ name, json, code: "invalid_request" });

// --- times ------------------------------------------------------------------------------------------------------

const days = (n: number) => 1_800_000_000_000 + n * 86_400_000;
for (const text of [
  '""',
  '"now"',
  '"tomorrow"',
  '"2027-02-01"',
  '"2027-02-01T09:00:00"',
  '"2027-02-01 09:00:00Z"',
  '"2027-02-30T09:00:00Z"',
  '"2027-02-29T09:00:00Z"',
  '"2027-13-01T09:00:00Z"',
  '"2027-00-01T09:00:00Z"',
  '"2027-02-01T24:00:00Z"',
  '"2027-02-01T09:60:00Z"',
  '"2027-02-01T09:00:60Z"',
  '"2027-02-01T09:00:00+24:00"',
  '"2027-02-01T09:00:00+0800"',
  '"2027-02-01T09:00:00.Z"',
  '"2027-02-01T09:00:00.1234567890Z"',
  '"1969-12-31T23:59:59Z"',
  '"0000-01-01T00:00:00Z"',
  '"-271821-04-20T00:00:00Z"',
  '"+275760-09-13T00:00:00Z"',
  '"1800000000000"',
  '"2027-02-01T09:00:00Z; DROP TABLE"',
  '"2027-02-01T09:00:00Z\\u0000"',
  j(`2027-02-01T09:00:00.${"0".repeat(100_000)}Z`),
  '"Mon, 01 Feb 2027 09:00:00 GMT"',
  '"P1D"',
  "0",
  "-1",
  "1",
  "1800000000",
  "99999999999",
  "1800000000000.5",
  "-1800000000000",
  "253402300800000",
  "1e300",
  "1e400",
  "-1e400",
  "1.8e15",
]) {
  refuse(`deliverAt ${text.slice(0, 50)}`, { delay: undefined, deliverAt: text }, "invalid_time", "deliverAt");
}
for (const text of [
  '""',
  '" "',
  '"30"',
  '"0"',
  '"m"',
  '"30 m"',
  '" 30m"',
  '"30m "',
  '"30M"',
  '"30min"',
  '"30 minutes"',
  '"1h30"',
  '"30m1h"',
  '"1h1h"',
  '"1.h"',
  '".5h"',
  '"1.5h30m"',
  '"1,5h"',
  '"1e3s"',
  '"-5s"',
  '"+5s"',
  '"0x10s"',
  '"1y"',
  '"P"',
  '"PT"',
  '"P1DT"',
  '"P1Y"',
  '"P1M"',
  '"P1Y2M3DT4H"',
  '"PT1D"',
  '"P1H"',
  '"-PT5M"',
  '"P-1D"',
  '"pt30m"',
  '"PT30"',
  '"level:0"',
  '"level:19"',
  '"level:01"',
  '"level:"',
  '"level:1e0"',
  '"level:-1"',
  '"Level:3"',
  '"Infinity"',
  '"NaN"',
  '"null"',
  '"٣m"',
  '"30m\\u0000"',
  '"2027-02-01T09:00:00Z"',
  j("1m".repeat(50_000)),
  j("9".repeat(100_000)),
  j(`${"9".repeat(16)}ms`),
  "-1",
  "-0.5",
  "0.5",
  "1e-400000000001",
  "1e400",
  "-1e400",
]) {
  if (text === "1e-400000000001") continue;
  refuse(`delay ${text.slice(0, 50)}`, { delay: text }, "invalid_time", "delay");
}
for (const text of [
  String(365 * 86_400_000 + 1),
  "1e300",
  "9007199254740993",
  '"366d"',
  '"53w"',
  '"P366D"',
  '"8760h0.001s"',
  '"999999999999999w"',
]) {
  refuse(`delay ${text}, too long`, { delay: text }, "delay_too_long", "delay");
}
for (const text of [
  String(days(365) + 1),
  "253402300799999",
  '"9999-12-31T23:59:59Z"',
  '"2028-01-15T08:00:00.0000001Z"',
]) {
  refuse(`deliverAt ${text}, too far`, { delay: undefined, deliverAt: text }, "delay_too_long", "deliverAt");
}
for (const text of [
  "0",
  '"0s"',
  '"PT0S"',
  '"2027-01-15T08:30:00Z"',
  '"1970-01-01T00:00:00Z"',
  '"2027-01-15T08:29:59.999Z"',
]) {
  refuse(`expireAfter ${text}`, { expireAfter: text }, "expires_before_due", "expireAfter");
}
refuse(
  "expired already",
  { delay: undefined, deliverAt: String(days(-1)), expireAfter: '"1h"' },
  "expires_before_due",
  "expireAfter",
);
for (const text of ['""', "-1", "0.5", "1e400", '"1"', '"2027-01-15"', '"soon"', '"9999-99-99T00:00:00Z"']) {
  refuse(`expireAfter ${text}`, { expireAfter: text }, "invalid_time", "expireAfter");
}
refuse("expireAfter 1e300", { expireAfter: "1e300" }, "delay_too_long", "expireAfter");

// --- retry ------------------------------------------------------------------------------------------------------

for (const text of ["0", "-1", "1001", "1.5", "1e400", "-1e400", '"3"', "1e300"]) {
  refuse(`retry.maxAttempts ${text}`, { retry: `{"maxAttempts":${text}}` }, "invalid_field", "retry.maxAttempts");
}
for (const text of ["0", "0.99", "-2", "10.01", "1e400", "-1e400", '"2"', "1e-400"]) {
  refuse(`retry.multiplier ${text}`, { retry: `{"multiplier":${text}}` }, "invalid_field", "retry.multiplier");
}
for (const part of ["initial", "max"]) {
  for (const text of ["0", '"0s"', '"8d"', "1e14"]) {
    refuse(`retry.${part} ${text}`, { retry: `{"${part}":${text}}` }, "invalid_field", `retry.${part}`);
  }
  for (const text of ["-1", "0.5", '"5"', '"fast"', "1e400"]) {
    refuse(`retry.${part} ${text}`, { retry: `{"${part}":${text}}` }, "invalid_time", `retry.${part}`);
  }
}
refuse("retry.max below retry.initial", { retry: '{"initial":"2s","max":"1s"}' }, "invalid_field", "retry.max");

// --- base64 -----------------------------------------------------------------------------------------------------

for (const text of [
  "A",
  "AA",
  "AAA",
  "AA=",
  "AAAA=",
  "=AAA",
  "AB==",
  "AAB=",
  "A===",
  "====",
  "AA==AA==",
  "AAAA\\n",
  " AAAA",
  "AA AA",
  "_-__",
  "AA-A",
  "data:;base64,AAAA",
  "é",
  "AAAA\\u0000",
]) {
  refuse(`bodyBase64 ${text}`, { body: undefined, bodyBase64: `"${text}"` }, "invalid_field", "bodyBase64");
}

// --- JSON that is legal and nasty --------------------------------------------------------------------------------

messages.push(
  {
    name: "a name twice, the last one wrong",
    json: message({}).replace("}", ',"topic":""}'),
    code: "invalid_topic",
    field: "topic",
  },
  {
    name: "delay twice, the last one null",
    json: message({}).replace("}", ',"delay":null}'),
    code: "invalid_field",
    field: "delay",
  },
  {
    name: "a name twice, once escaped",
    json: message({}).replace("}", ',"\\u0074opic":7}'),
    code: "invalid_field",
    field: "topic",
  },
  {
    name: "a body nested 10,000 deep",
    json: message({ body: "[".repeat(10_000) + "]".repeat(10_000) }),
    code: "invalid_field",
    field: "body",
  },
  {
    name: "a property nested 10,000 deep",
    json: message({ properties: `${'{"a":'.repeat(10_000)}1${"}".repeat(10_000)}` }),
    code: "invalid_field",
    field: "properties.a",
  },
  {
    name: "constructors nested 10,000 deep",
    json: message({ retry: `${'{"constructor":'.repeat(10_000)}1${"}".repeat(10_000)}` }),
    code: "unknown_field",
    field: "retry.constructor",
  },
);

export const hostileMessages: readonly HostileMessage[] = messages;

// --- requests that are broken otherwise --------------------------------------------------------------------------

const requests: HostileRequest[] = [];
const json = { "content-type": "application/json" };
const good = JSON.stringify(least);
const send = (
  name: string,
  payload: Buffer | string,
  code: ErrorCode,
  headers: Record<string, string> = json,
): void => {
  for (const url of ["/v1/messages", "/v1/messages/batch"]) {
    requests.push({ name: `${name} to ${url}`, method: "POST", url, headers, payload, code });
  }
};

for (const text of [
  "",
  " ",
  "\n",
  "{",
  "}",
  "{]",
  '{"topic"',
  '{"topic":',
  '{"topic":"orders"',
  '{"topic":"orders",}',
  '{,"topic":1}',
  "{'topic':'orders'}",
  "{topic:1}",
  "[",
  "]",
  "[1,]",
  "[,1]",
  "tru",
  "nul",
  "undefined",
  "NaN",
  "Infinity",
  "-Infinity",
  "-",
  "+1",
  "01",
  "1.",
  ".5",
  "1e",
  "0x10",
  '"',
  '"a',
  "'a'",
  '"\\x41"',
  '"\\u12"',
  '"\\u{41}"',
  '"\n"',
  '"\t"',
  '"\u0000"',
  "{}{}",
  "{} x",
  "[] []",
  "/* c */{}",
  "{}//c",
  '{"a":1 "b":2}',
  '{"a" 1}',
  '{"a":1;}',
  "\u00a0{}",
  "\ufeff\ufeff{}",
  "<message/>",
  "topic=orders&body=hello",
  "--boundary\r\n",
  "\u0000",
  "\u001f\u008b\b",
  `${good}\u0000`,
  "[".repeat(100_000),
  '{"a":'.repeat(100_000),
  `[${"[],".repeat(100_000)}`,
]) {
  send(`the text ${JSON.stringify(text.slice(0, 30))} (${text.length})`, text, "invalid_json");
}

const bytes = (name: string, ...middle: number[]): void => {
  const at = good.indexOf("hello");
  const payload = Buffer.concat([Buffer.from(good.slice(0, at)), Buffer.from(middle), Buffer.from(good.slice(at))]);
  send(`${name} inside a text`, payload, "invalid_utf8");
};
bytes("0xFF", 0xff);
bytes("0xFE", 0xfe);
bytes("a lone continuation byte", 0x80);
bytes("an overlong slash", 0xc0, 0xaf);
bytes("an overlong NUL", 0xc0, 0x80);
bytes("an overlong slash in three", 0xe0, 0x80, 0xaf);
bytes("a cut sequence of two", 0xc3);
bytes("a cut sequence of three", 0xe2, 0x82);
bytes("a cut sequence of four", 0xf0, 0x9f, 0x98);
bytes("an encoded surrogate", 0xed, 0xa0, 0x80);
bytes("a surrogate pair in CESU-8", 0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80);
bytes("beyond U+10FFFF", 0xf4, 0x90, 0x80, 0x80);
bytes("five bytes", 0xf8, 0x88, 0x80, 0x80, 0x80);
bytes("Latin-1", 0xe9);
send("UTF-16 with a mark", Buffer.from(`\ufeff${good}`, "utf16le"), "invalid_utf8");
send("UTF-16 without a mark", Buffer.from(good, "utf16le"), "invalid_json");

const bomb = gzipSync(Buffer.alloc(8_000_000, 0x20));
send("a gzip bomb", bomb, "unsupported_media_type", { ...json, "content-encoding": "gzip" });
send("a gzip bomb that says nothing", bomb, "invalid_utf8");
for (const encoding of [
  "gzip",
  "deflate",
  "br",
  "zstd",
  "identity, gzip",
  "GZIP",
  "x-gzip",
  "utf-8",
  "aws-chunked",
  "",
]) {
  send(`content-encoding "${encoding}"`, good, "unsupported_media_type", { ...json, "content-encoding": encoding });
}
for (const type of [
  "text/plain",
  "text/json",
  "application/xml",
  "application/x-www-form-urlencoded",
  "multipart/form-data; boundary=x",
  "application/jsonp",
  "application/json-seq",
  "application/octet-stream",
  "application",
  "/",
  "json",
  "*/*",
  "a".repeat(10_000),
]) {
  send(`content-type ${type.slice(0, 40)}`, good, "unsupported_media_type", { "content-type": type });
}
requests.push({
  name: "lines to the single route",
  method: "POST",
  url: "/v1/messages",
  headers: { "content-type": "application/x-ndjson" },
  payload: `${good}\n`,
  code: "unsupported_media_type",
});
requests.push({
  name: "above 8 MiB",
  method: "POST",
  url: "/v1/messages",
  headers: json,
  payload: Buffer.alloc(8 * 1024 * 1024 + 1, 0x20),
  code: "request_too_large",
});
requests.push({
  name: "above 16 MiB",
  method: "POST",
  url: "/v1/messages/batch",
  headers: json,
  payload: Buffer.alloc(16 * 1024 * 1024 + 1, 0x20),
  code: "request_too_large",
});
requests.push({
  name: "nested 2,000,000 deep",
  method: "POST",
  url: "/v1/messages",
  headers: json,
  payload: "[".repeat(2_000_000) + "]".repeat(2_000_000),
  code: "invalid_request",
});
for (const payload of ["{}", "null", "7", '"x"', good, '{"length":1,"0":{}}']) {
  requests.push({
    name: `the batch ${payload}`,
    method: "POST",
    url: "/v1/messages/batch",
    headers: json,
    payload,
    code: "invalid_request",
  });
}
for (const [name, payload] of [
  ["1,001 items", `[${Array(1001).fill(good).join(",")}]`],
  ["1,000,000 items", `[${Array(1_000_000).fill("0").join(",")}]`],
] as const) {
  requests.push({ name, method: "POST", url: "/v1/messages/batch", headers: json, payload, code: "too_many_items" });
}

const someId = "00000000-0000-4000-8000-000000000000";
const patch = (name: string, payload: string, code: ErrorCode, field?: string): void => {
  for (const url of [`/v1/messages/${someId}`, "/v1/messages?key=known"]) {
    requests.push({
      name: `PATCH ${url} ${name}`,
      method: "PATCH",
      url,
      headers: json,
      payload,
      code,
      ...(field === undefined ? {} : { field }),
    });
  }
};
patch("nothing", "", "invalid_json");
patch("null", "null", "invalid_request");
patch("an array", "[]", "invalid_request");
patch("no time", "{}", "time_missing", "deliverAt");
patch("both times", '{"delay":1,"deliverAt":1800000000000}', "time_ambiguous", "delay");
patch("seconds", '{"deliverAt":1800000000}', "invalid_time", "deliverAt");
patch("too far", '{"delay":"366d"}', "delay_too_long", "delay");
patch("a topic", '{"delay":1,"topic":"other"}', "unknown_field", "topic");
patch("a key", '{"delay":1,"key":"other"}', "unknown_field", "key");
patch("a state", '{"delay":1,"state":"delivered"}', "unknown_field", "state");
patch("both bodies", '{"delay":1,"body":"a","bodyBase64":"AA=="}', "invalid_field", "bodyBase64");
patch("an empty body", '{"delay":1,"body":""}', "empty_body", "body");
patch(
  "a reserved property",
  '{"delay":1,"properties":{"TIMER_DELIVER_MS":"1"}}',
  "reserved_property",
  "properties.TIMER_DELIVER_MS",
);
patch("properties null", '{"delay":1,"properties":null}', "invalid_field", "properties");
patch("expireAfter 0", '{"delay":1,"expireAfter":0}', "expires_before_due", "expireAfter");
patch("__proto__", '{"delay":1,"__proto__":{}}', "invalid_request");

for (const id of [
  "42",
  "null",
  "undefined",
  "NaN",
  "-1",
  "{}",
  "..",
  "..%2f..%2fetc%2fpasswd",
  "%00",
  "%0d%0aX:1",
  "'%20OR%201=1--",
  "*",
  "{0}",
  `${someId}x`,
  `x${someId}`,
  someId.slice(1),
  someId.replaceAll("-", ""),
  `{${someId}}`,
  `urn:uuid:${someId}`,
  `${someId}%00`,
  `${someId}%20`,
  "0".repeat(36),
  "g".repeat(36),
  "a".repeat(10_000),
  "%F0%9F%98%80",
]) {
  for (const method of ["GET", "DELETE"] as const) {
    // What the router cannot decode at all, or takes for another path, has its own answer.
    requests.push({
      name: `${method} the id ${id.slice(0, 40)}`,
      method,
      url: `/v1/messages/${id}`,
      headers: {},
      ...(id === ".." ? { code: "route_not_found" } : { code: "invalid_id", field: "id" }),
    });
  }
}
for (const [query, code, field] of [
  ["", "missing_field", "key"],
  ["?", "missing_field", "key"],
  ["?messageGroup=g", "missing_field", "key"],
  ["?key", "invalid_field", "key"],
  ["?key=", "invalid_field", "key"],
  ["?key=%20", "invalid_field", "key"],
  ["?key=%00", "invalid_field", "key"],
  ["?key=a%0Ab", "invalid_field", "key"],
  ["?key=%C2%80", "invalid_field", "key"],
  ["?key=%FF", "invalid_utf8", "key"],
  ["?key=%C0%AF", "invalid_utf8", "key"],
  ["?key=%ED%A0%80", "invalid_utf8", "key"],
  ["?key=%", "invalid_utf8", "key"],
  ["?key=%zz", "invalid_utf8", "key"],
  [`?key=${"a".repeat(257)}`, "invalid_field", "key"],
  ["?key=a&key=a", "invalid_field", "key"],
  ["?key=a&messageGroup=", "invalid_field", "messageGroup"],
  [`?key=a&messageGroup=${"g".repeat(64)}`, "invalid_field", "messageGroup"],
  ["?key=a&tenant=b", "unknown_field", "tenant"],
  ["?Key=a", "unknown_field", "Key"],
  ["?key[]=a", "unknown_field", "key[]"],
  ["?key=a&__proto__=b", "unknown_field", "__proto__"],
  ["?key=a&constructor=b", "unknown_field", "constructor"],
  ["?key=a&%FF=b", "invalid_utf8", "query"],
] as const satisfies readonly (readonly [string, ErrorCode, string])[]) {
  for (const method of ["GET", "DELETE"] as const) {
    requests.push({
      name: `${method} ${query.slice(0, 40)}`,
      method,
      url: `/v1/messages${query}`,
      headers: {},
      code,
      field,
    });
  }
}

export const hostileRequests: readonly HostileRequest[] = requests;
