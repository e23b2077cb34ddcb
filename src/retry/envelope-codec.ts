import { type DurationMs, durationMs, type EpochMs, epochMs, epochMsMax } from "../message/time.ts";
import type { PastFailure, RetryEnvelope } from "./envelope.ts";
import { type FailureClass, failureClasses } from "./policy.ts";

/**
 * The envelope as the text of one property, and back: JSON with names of one or two letters, and arrays for the
 * failures, because this travels with every attempt and shares RocketMQ's 16 KiB with the user's own properties.
 *
 * It shrinks to the room there is: first the texts of the failures, then the failures between the first one and the
 * last ones, then all of them. What counts (attempts, ages, where from) is never left out.
 *
 * Whoever may write to the ingest topic can write anything here, so nothing of it is believed before it was looked at.
 */

export const envelopeLimits = {
  /** A quarter of what RocketMQ gives to all properties; nine failures with their texts take three quarters of it. */
  bytesMax: 4_096,
  /** Beside the first. */
  lastFailuresMax: 8,
  errorTextMax: 200,
  codeMax: 64,
  fingerprintMax: 64,
  /** RocketMQ allows 120 characters in a group and 127 in a topic. */
  groupMax: 120,
  topicMax: 127,
  originIdMax: 320,
  escIdMax: 36,
  messageGroupMax: 64,
  keyMax: 128,
  policyMax: 160,
  redriveMax: 64,
  countMax: 1_000_000,
} as const;

/** Raised when a field changes its meaning. Fields that are new and may be ignored do not raise it. */
const version = 1;

/** The text lengths that are tried one after the other; then failures are left out. */
const textLengths = [envelopeLimits.errorTextMax, 80, 24, 0];
const lastFailuresKept = [4, 2, 1];

/** Undefined when it does not fit into `bytesMax` even without its failures. */
export const encodeEnvelope = (
  envelope: RetryEnvelope,
  bytesMax: number = envelopeLimits.bytesMax,
): string | undefined => {
  const roomBytes = Math.min(bytesMax, envelopeLimits.bytesMax);
  const core = coreOf(envelope);
  const { history } = envelope;
  const fitting = (failures: readonly PastFailure[], textMax: number): string | undefined => {
    const text = JSON.stringify({ ...core, l: failures.map((failure) => packFailure(failure, textMax)) });
    return Buffer.byteLength(text) <= roomBytes ? text : undefined;
  };
  for (const textMax of textLengths) {
    const text = fitting(history, textMax);
    if (text !== undefined) return text;
  }
  for (const last of lastFailuresKept) {
    const text = history.length > last + 1 ? fitting([history[0]!, ...history.slice(-last)], 0) : undefined;
    if (text !== undefined) return text;
  }
  return fitting([], 0);
};

/** With one more failure: the first one of all and the last ones stay. */
export const withFailure = (history: readonly PastFailure[], failure: PastFailure): readonly PastFailure[] => {
  const all = [...history, failure];
  return all.length <= envelopeLimits.lastFailuresMax + 1
    ? all
    : [all[0]!, ...all.slice(-envelopeLimits.lastFailuresMax)];
};

/** The beginning of a text, without what RocketMQ refuses in a property and without half a character at its end. */
export const boundedText = (text: string, lengthMax: number): string => {
  const beginning = text.length > lengthMax ? `${text.slice(0, Math.max(lengthMax - 1, 0))}…` : text;
  return beginning.replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ").toWellFormed();
};

type Packed = readonly [attempt: number, atMs: number, class_: string, code: string, fingerprint: string, text: string];

const packFailure = (failure: PastFailure, textMax: number): Packed => [
  failure.attempt,
  failure.atMs,
  failure.class,
  boundedText(failure.code, envelopeLimits.codeMax),
  boundedText(failure.fingerprint, envelopeLimits.fingerprintMax),
  textMax === 0 ? "" : boundedText(failure.text, textMax),
];

const coreOf = (envelope: RetryEnvelope): Record<string, unknown> => ({
  v: version,
  g: envelope.group,
  t: envelope.originTopic,
  i: envelope.originId,
  b: envelope.originBornAtMs,
  e: envelope.originEscId,
  m: envelope.originMessageGroup,
  h: envelope.hop,
  a: envelope.attempt,
  c: envelope.crashes === 0 ? undefined : envelope.crashes,
  f: envelope.firstFailedAtMs,
  k: envelope.parkedMs === 0 ? undefined : envelope.parkedMs,
  ka: envelope.parkedAtMs,
  kf: envelope.parkedFor,
  d: envelope.previousDelayMs,
  p: envelope.policy,
  u: envelope.mustVerify === true ? 1 : undefined,
  r: envelope.replays === 0 ? undefined : envelope.replays,
  j: envelope.redrive,
  x: envelope.redirects === 0 ? undefined : envelope.redirects,
});

export type DecodedEnvelope =
  | { readonly ok: true; readonly envelope: RetryEnvelope }
  /** In words, for whoever looks at the message among the dead. */
  | { readonly ok: false; readonly reason: string };

export const decodeEnvelope = (text: string): DecodedEnvelope => {
  try {
    return { ok: true, envelope: read(text) };
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { ok: false, reason: `the retry envelope ${error.message}` };
  }
};

class Refused extends Error {}

const read = (text: string): RetryEnvelope => {
  // In UTF-8 a text has at least as many bytes as it has units here: the first comparison bounds the second.
  const { bytesMax } = envelopeLimits;
  if (text.length > bytesMax || Buffer.byteLength(text) > bytesMax)
    throw new Refused(`is larger than ${bytesMax} bytes`);
  const fields = parseObject(text);
  if (fields.v !== version) {
    throw new Refused(
      `has version ${shown(fields.v)}, and ${version} is understood; is the sender newer than this process?`,
    );
  }
  const time = (name: string): EpochMs => epochMs(whole(fields, name, epochMsMax));
  const length = (name: string): DurationMs => durationMs(whole(fields, name, epochMsMax));
  const maybe = <K extends string, T>(
    name: string,
    key: K,
    readIt: (name: string) => T,
  ): { [P in K]: T } | undefined =>
    fields[name] === undefined ? undefined : ({ [key]: readIt(name) } as { [P in K]: T });
  const count = (name: string): number =>
    fields[name] === undefined ? 0 : whole(fields, name, envelopeLimits.countMax);
  const limited = (lengthMax: number) => (name: string) => textOf(fields[name], name, lengthMax);
  const { groupMax, topicMax, originIdMax, escIdMax, messageGroupMax, keyMax, policyMax, redriveMax, countMax } =
    envelopeLimits;
  const attempt = whole(fields, "a", countMax);
  const crashes = count("c");
  if (crashes > attempt) throw new Refused(`counts ${crashes} crashes in ${attempt} attempts`);
  if (fields.u !== undefined && fields.u !== 1) throw new Refused("has a field u that is not 1");
  return {
    group: limited(groupMax)("g"),
    originTopic: limited(topicMax)("t"),
    originId: limited(originIdMax)("i"),
    originBornAtMs: time("b"),
    ...maybe("e", "originEscId", limited(escIdMax)),
    ...maybe("m", "originMessageGroup", limited(messageGroupMax)),
    hop: whole(fields, "h", countMax),
    attempt,
    crashes,
    ...maybe("f", "firstFailedAtMs", time),
    parkedMs: fields.k === undefined ? durationMs(0) : length("k"),
    ...maybe("ka", "parkedAtMs", time),
    ...maybe("kf", "parkedFor", limited(keyMax)),
    ...maybe("d", "previousDelayMs", length),
    policy: limited(policyMax)("p"),
    ...(fields.u === 1 ? { mustVerify: true } : undefined),
    history: readHistory(fields.l),
    replays: count("r"),
    ...maybe("j", "redrive", limited(redriveMax)),
    redirects: count("x"),
  };
};

type Fields = Readonly<Record<string, unknown>>;

const parseObject = (text: string): Fields => {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Refused("is not JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Refused("is not a JSON object");
  return value as Fields;
};

const whole = (fields: Fields, name: string, max: number): number => {
  const value = fields[name];
  if (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= max) return value as number;
  throw new Refused(`has a field ${name} that is not a whole number from 0 to ${max}: ${shown(value)}`);
};

const control = /[\u0000-\u001f\u007f-\u009f]/;

const textOf = (value: unknown, name: string, lengthMax: number, lengthMin = 1): string => {
  if (typeof value !== "string") throw new Refused(`has a field ${name} that is not a text: ${shown(value)}`);
  if (value.length < lengthMin || value.length > lengthMax) {
    throw new Refused(`has a field ${name} of ${value.length} characters, ${lengthMin} to ${lengthMax} are allowed`);
  }
  if (control.test(value) || !value.isWellFormed()) throw new Refused(`has control characters in its field ${name}`);
  return value;
};

const readHistory = (value: unknown): readonly PastFailure[] => {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw new Refused("has a history that is not a list");
  const most = envelopeLimits.lastFailuresMax + 1;
  if (value.length > most) throw new Refused(`has a history of ${value.length} failures, ${most} are kept`);
  return value.map((entry: unknown, i) => {
    const name = `l[${i}]`;
    if (!Array.isArray(entry) || entry.length !== 6) throw new Refused(`has a field ${name} that is not a failure`);
    const [, , failureClass, code, fingerprint, text] = entry as unknown[];
    if (!failureClasses.includes(failureClass as FailureClass)) {
      throw new Refused(`has a failure class that does not exist in ${name}: ${shown(failureClass)}`);
    }
    const numbers = { attempt: entry[0], time: entry[1] } as Fields;
    return {
      attempt: whole(numbers, "attempt", envelopeLimits.countMax),
      atMs: epochMs(whole(numbers, "time", epochMsMax)),
      class: failureClass as FailureClass,
      code: textOf(code, `${name}.code`, envelopeLimits.codeMax),
      fingerprint: textOf(fingerprint, `${name}.fingerprint`, envelopeLimits.fingerprintMax),
      text: textOf(text, `${name}.text`, envelopeLimits.errorTextMax, 0),
    };
  });
};

/** Of what a stranger wrote, no more than this is repeated. */
const shownMax = 40;

const shown = (value: unknown): string => {
  const text = value === undefined ? "nothing" : (JSON.stringify(value) ?? typeof value);
  return text.length > shownMax ? `${text.slice(0, shownMax)}…` : text;
};
