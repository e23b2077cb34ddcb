import { EscapementError } from "../message/errors.ts";
import { topicPattern } from "../message/message.ts";
import { JsonReader } from "../retry/json-reader.ts";
import { readPolicy } from "../retry/parse-policy.ts";
import type { RetryPolicy } from "../retry/policy.ts";
import { presets } from "../retry/presets.ts";
import type { RetryBinding, RetryBindingPlace } from "../wire/http.ts";

/** What users send about policies and bindings, checked purely; every mistake is told with its path. */

/** `simulate` and `replay` stand in the place of a name in the API. */
const namePattern = /^(?!(?:simulate|replay)$)[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/;
const groupPattern = /^[%|a-zA-Z0-9_-]{1,120}$/;
const tagLengthMax = 127;
const byLengthMax = 128;
const whyLengthMax = 500;
/** Later versions than this one nobody lives to see. */
const versionMax = 1_000_000_000;

export const checkName = (name: string): string => {
  if (namePattern.test(name)) return name;
  throw new EscapementError(
    "invalid_field",
    "The name of a retry policy has 1 to 64 letters, digits, . _ or -, begins with a letter or digit, and is not simulate or replay.",
    { field: "name" },
  );
};

/** Presets are read by anybody and changed by nobody. */
export const checkOwnName = (name: string): string => {
  checkName(name);
  if (!presets.some((preset) => preset.name === name)) return name;
  throw new EscapementError("policy_preset", `${name} comes with the program; choose another name for yours.`, {
    field: "name",
  });
};

/** `name` or `name@version`. */
export const readReference = (reference: string): { readonly name: string; readonly version: number | undefined } => {
  const at = reference.lastIndexOf("@");
  if (at < 0) return { name: checkName(reference), version: undefined };
  const version = reference.slice(at + 1);
  if (/^\d{1,9}$/.test(version)) return { name: checkName(reference.slice(0, at)), version: Number(version) };
  throw new EscapementError("invalid_field", "The version of a retry policy is a whole number: name@3.", {
    field: "name",
  });
};

export type AdmittedPolicy = {
  /** As it was written. */
  readonly input: object;
  readonly policy: RetryPolicy;
  readonly ifVersion?: number;
  readonly by?: string;
  readonly why?: string;
};

export const admitPolicy = (request: unknown): AdmittedPolicy => {
  const reader = new JsonReader();
  const fields = reader.object(request, "request", ["policy", "ifVersion", "by", "why"]);
  const policy = readPolicy(reader, fields.policy, "policy");
  const ifVersion = reader.whole(fields.ifVersion, "ifVersion", 0, versionMax, 0);
  const by = reader.sentence(fields.by, "by", byLengthMax);
  const why = reader.sentence(fields.why, "why", whyLengthMax);
  reader.finish();
  return {
    input: fields.policy as object,
    policy,
    ...(fields.ifVersion === undefined ? undefined : { ifVersion }),
    ...(by === undefined ? undefined : { by }),
    ...(why === undefined ? undefined : { why }),
  };
};

/** Who deletes it, and why. */
export const admitWho = ({ by, why }: { by?: string; why?: string }): { by?: string; why?: string } => {
  const reader = new JsonReader();
  const checked = {
    by: reader.sentence(by, "by", byLengthMax),
    why: reader.sentence(why, "why", whyLengthMax),
  };
  reader.finish();
  return {
    ...(checked.by === undefined ? undefined : { by: checked.by }),
    ...(checked.why === undefined ? undefined : { why: checked.why }),
  };
};

export const admitBinding = (request: unknown): RetryBinding => {
  const reader = new JsonReader();
  const fields = reader.object(request, "request", ["topic", "group", "tag", "policy"]);
  const place = readPlace(reader, fields);
  if (typeof fields.policy !== "string") reader.refuse("policy", "is missing; name the retry policy to bind");
  reader.finish();
  return { ...place, policy: checkName(fields.policy as string) };
};

export const admitPlace = (place: RetryBindingPlace): RetryBindingPlace => {
  const reader = new JsonReader();
  const checked = readPlace(reader, place);
  reader.finish();
  return checked;
};

const readPlace = (reader: JsonReader, { topic, group, tag }: Readonly<Record<string, unknown>>): RetryBindingPlace => {
  if (topic !== undefined && !(typeof topic === "string" && topicPattern.test(topic))) {
    reader.refuse("topic", "is no name of a topic: RocketMQ allows 1 to 127 letters, digits, _ - % |");
  }
  if (group !== undefined && !(typeof group === "string" && groupPattern.test(group))) {
    reader.refuse("group", "is no name of a group: RocketMQ allows 1 to 120 letters, digits, _ - % |");
  }
  const checkedTag = reader.sentence(tag, "tag", tagLengthMax);
  if (checkedTag?.includes("|")) reader.refuse("tag", "is one tag; bind each by itself");
  return {
    ...(topic === undefined ? undefined : { topic: topic as string }),
    ...(group === undefined ? undefined : { group: group as string }),
    ...(checkedTag === undefined ? undefined : { tag: checkedTag }),
  };
};
