import { isEscapementError } from "../message/errors.ts";
import type { RetryEnvelope } from "../retry/envelope.ts";
import { versionInForce } from "../retry/in-flight.ts";
import { parsePolicy } from "../retry/parse-policy.ts";
import type { RetryPolicy } from "../retry/policy.ts";
import { presets } from "../retry/presets.ts";
import type { Log } from "../runtime/log.ts";
import type { ConsumerSyncReply, ConsumerSyncRequest } from "../wire/consumer-sync.ts";
import type { PolicyInUse } from "./disposition.ts";

/**
 * Which policy holds for a message: the one given in the program, or what the service said last. What is known is kept
 * for as long as nothing better is, so a service that is away, or a policy that somebody deleted, changes nothing here.
 *
 * Until the service has answered for the first time, the preset `default` holds.
 */
export type GivenPolicy =
  | { readonly kind: "inline"; readonly policy: RetryPolicy; readonly name: string }
  /** The service's policy of this name. */
  | { readonly kind: "named"; readonly name: string }
  /** Whatever the service has bound to topic, group and tag. */
  | { readonly kind: "bound" };

type Bound = PolicyInUse & { readonly topic?: string; readonly messageTag?: string };

/** Versions that messages in flight may still be decided by. */
const versionsMax = 100;

export class KnownPolicies {
  readonly #given: GivenPolicy;
  readonly #log: Log;
  readonly #standard: PolicyInUse;
  #bound: readonly Bound[] = [];
  #tag: string | undefined;
  #isMissing = false;
  readonly #versions = new Map<string, RetryPolicy | null>();
  readonly #wanted = new Set<string>();

  constructor(given: GivenPolicy, log: Log) {
    this.#given = given;
    this.#log = log;
    this.#standard =
      given.kind === "inline"
        ? { label: `${given.name}@0`, policy: given.policy }
        : { label: "default@0", policy: presets[0]!.policy };
  }

  /** Of a message with these, which was last decided by what its envelope says. */
  of(topic: string, tag: string | undefined, { policy: label, attempt }: RetryEnvelope): PolicyInUse {
    const current = this.#current(topic, tag);
    const [name, version] = current.label.split("@") as [string, string];
    const holds = versionInForce(
      { name, version: Number(version), policy: current.policy },
      attempt === 0 ? undefined : label,
    );
    if (holds === current.label) return current;
    const kept = this.#versions.get(label);
    if (kept === undefined && this.#wanted.size < versionsMax) this.#wanted.add(label);
    return kept === undefined || kept === null ? current : { label, policy: kept };
  }

  request(): Pick<ConsumerSyncRequest, "policiesTag" | "policy" | "versionsWanted"> {
    if (this.#given.kind === "inline") return {};
    return {
      ...(this.#tag === undefined ? undefined : { policiesTag: this.#tag }),
      ...(this.#given.kind === "named" ? { policy: this.#given.name } : undefined),
      ...(this.#wanted.size === 0 ? undefined : { versionsWanted: [...this.#wanted] }),
    };
  }

  take({ policies, versions }: ConsumerSyncReply): void {
    if (this.#given.kind === "inline") return;
    for (const { name, version, policy } of versions ?? []) {
      const label = `${name}@${version}`;
      this.#wanted.delete(label);
      this.#keepVersion(label, policy === null ? null : (this.#read(policy, label) ?? null));
    }
    if (policies === undefined || policies.tag === this.#tag) return;
    this.#tag = policies.tag;
    if (policies.bound.length === 0 && this.#given.kind === "named") {
      if (!this.#isMissing) {
        const known = this.#bound[0]?.label ?? this.#standard.label;
        this.#log.warn({ policy: this.#given.name, known }, "the service has no such policy; the last one known holds");
      }
      this.#isMissing = true;
      return;
    }
    this.#isMissing = false;
    this.#bound = policies.bound.flatMap(({ name, version, policy, topic, messageTag }) => {
      const label = `${name}@${version}`;
      // A policy that this process cannot read, because it is older, is better replaced by the one before than by none.
      const before = this.#bound.find((one) => one.label.startsWith(`${name}@`))?.policy;
      const read = this.#read(policy, label) ?? before;
      if (read === undefined) return [];
      this.#keepVersion(label, read);
      return [
        {
          label,
          policy: read,
          ...(topic === undefined ? undefined : { topic }),
          ...(messageTag === undefined ? undefined : { messageTag }),
        },
      ];
    });
    this.#log.info({ policies: this.#bound.map(({ label }) => label) }, "retry policies of the service hold now");
  }

  #current(topic: string, tag: string | undefined): PolicyInUse {
    const fitting = this.#bound.find(
      (one) =>
        (one.topic === undefined || one.topic === topic) && (one.messageTag === undefined || one.messageTag === tag),
    );
    return fitting ?? this.#standard;
  }

  #keepVersion(label: string, policy: RetryPolicy | null): void {
    this.#versions.delete(label);
    this.#versions.set(label, policy);
    if (this.#versions.size > versionsMax) this.#versions.delete(this.#versions.keys().next().value!);
  }

  #read(input: unknown, label: string): RetryPolicy | undefined {
    try {
      return parsePolicy(input);
    } catch (error) {
      if (!isEscapementError(error)) throw error;
      this.#log.warn({ policy: label, detail: error.message }, "a policy of the service cannot be read here");
      return undefined;
    }
  }
}
