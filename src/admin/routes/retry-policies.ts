import type { FastifyInstance } from "fastify";
import { EscapementError } from "../../message/errors.ts";
import { parsePolicy } from "../../retry/parse-policy.ts";
import type { RetryPolicy } from "../../retry/policy.ts";
import { simulatePolicy } from "../../retry/simulate.ts";
import { problems, requestProblems, serviceProblems } from "../documented-problems.ts";
import type { HttpContext } from "../http-context.ts";
import { reply as replied } from "../named-schema.ts";
import {
  DeletePolicyReplySchema,
  PolicyListReplySchema,
  PolicyReplySchema,
  PolicyVersionsReplySchema,
  PutPolicyReplySchema,
  PutPolicyRequestSchema,
} from "../policy-schemas.ts";
import { readCount, readFlag, readQuery } from "../query.ts";
import { SimulateRetriesReplySchema } from "../retry-schemas.ts";
import { policyBytesMax } from "./retry.ts";

/** Retry policies that are stored: list, read, write, delete, and ask what one would do. */

type Named = { Params: { name: string } };

const versionMax = 999_999_999;
const params = (description: string) => ({
  type: "object",
  properties: { name: { type: "string", description } },
  required: ["name"],
});
const byName = params("Letters, digits, . _ -; at most 64.");
const byReference = params("A name for the newest version, or name@version for any that ever held.");
const nameProblems = ["invalid_field", "policy_not_found"] as const;
/** Whoever changes it: what others did at the same time, or what else there is. */
const changeProblems = ["policy_preset", "policy_changed", "overloaded"] as const;

export const retryPolicyRoutes = (app: FastifyInstance, { policies, admitRequest }: HttpContext): void => {
  const common = { tags: ["retries"] };

  app.get(
    "/v1/retry-policies",
    {
      schema: {
        ...common,
        operationId: "listPolicies",
        summary: "List the retry policies",
        description: "Yours by name, and the presets that come with the program.",
        response: {
          200: replied(PolicyListReplySchema, "All of them."),
          ...problems("unknown_field", ...serviceProblems),
        },
      },
    },
    async (request) => {
      readQuery(request.raw.url!, []);
      return policies.list();
    },
  );

  app.get<Named>(
    "/v1/retry-policies/:name",
    {
      schema: {
        ...common,
        operationId: "getPolicy",
        summary: "Read a retry policy",
        params: byReference,
        response: {
          200: replied(PolicyReplySchema, "The policy as it was written."),
          ...problems(...nameProblems, "unknown_field", ...serviceProblems),
        },
      },
    },
    async (request) => {
      readQuery(request.raw.url!, []);
      return policies.get(request.params.name);
    },
  );

  app.get<Named>(
    "/v1/retry-policies/:name/versions",
    {
      schema: {
        ...common,
        operationId: "listPolicyVersions",
        summary: "List the versions of a retry policy",
        description: "Who changed it when and why, newest first, a hundred at a time; deletions too.",
        params: byName,
        querystring: {
          type: "object",
          properties: { before: { type: "integer", minimum: 1, description: "Only versions before this one." } },
        },
        response: {
          200: replied(PolicyVersionsReplySchema, "Its versions."),
          ...problems(...nameProblems, "unknown_field", ...serviceProblems),
        },
      },
    },
    async (request) => {
      const { before } = readQuery(request.raw.url!, ["before"]);
      const wanted = before === undefined ? undefined : readCount(before, "before", 0, versionMax);
      return policies.versions(request.params.name, wanted);
    },
  );

  app.put<Named>(
    "/v1/retry-policies/:name",
    {
      bodyLimit: policyBytesMax,
      onRequest: admitRequest(policyBytesMax),
      schema: {
        ...common,
        operationId: "putPolicy",
        summary: "Write a retry policy",
        description:
          "Makes a new version, which holds everywhere within two seconds; writing what is there already makes none, so a request without an answer can be repeated. What becomes of messages that already failed, the policy says itself (`inFlight`).",
        params: byName,
        body: { $ref: `${PutPolicyRequestSchema.$id}#` },
        response: {
          200: replied(PutPolicyReplySchema, "The version that holds now."),
          ...problems(
            "invalid_field",
            ...changeProblems.slice(0, 2),
            "policy_circle",
            "too_many_policies",
            ...requestProblems,
            ...serviceProblems,
          ),
        },
      },
    },
    async (request) => policies.put(request.params.name, request.body),
  );

  app.delete<Named>(
    "/v1/retry-policies/:name",
    {
      bodyLimit: policyBytesMax,
      onRequest: admitRequest(policyBytesMax),
      schema: {
        ...common,
        operationId: "deletePolicy",
        summary: "Delete a retry policy",
        description:
          "Refused while it is bound, unless its bindings go with it. Its versions stay readable, for messages that were decided by them; consumers that ask for it by name go on with the last one.",
        params: byName,
        querystring: {
          type: "object",
          properties: {
            ifVersion: { type: "integer", minimum: 1, description: "The version that you have seen." },
            withBindings: { type: "boolean", default: false, description: "Remove its bindings too." },
            by: { type: "string", description: "Who deletes it, as you say yourself." },
            why: { type: "string" },
          },
        },
        response: {
          200: replied(DeletePolicyReplySchema, "It is deleted."),
          ...problems(...nameProblems, "unknown_field", "policy_bound", ...changeProblems, ...serviceProblems),
        },
      },
    },
    async (request) => {
      const { ifVersion, withBindings, by, why } = readQuery(request.raw.url!, [
        "ifVersion",
        "withBindings",
        "by",
        "why",
      ]);
      return policies.remove(request.params.name, {
        withBindings: readFlag(withBindings, "withBindings"),
        ...(ifVersion === undefined ? undefined : { ifVersion: readCount(ifVersion, "ifVersion", 0, versionMax) }),
        ...(by === undefined ? undefined : { by }),
        ...(why === undefined ? undefined : { why }),
      });
    },
  );

  app.post<Named>(
    "/v1/retry-policies/:name/simulate",
    {
      bodyLimit: policyBytesMax,
      onRequest: admitRequest(policyBytesMax),
      schema: {
        ...common,
        operationId: "simulatePolicy",
        summary: "Ask what a stored retry policy would do",
        description: "As /v1/retry-policies/simulate, without `policy` and `preset`.",
        params: byReference,
        body: { type: "object", description: "`error`, `attempts` and `firstFailedAt` of SimulateRetriesRequest." },
        response: {
          200: replied(SimulateRetriesReplySchema, "The schedule and what ends it."),
          ...problems(...nameProblems, ...requestProblems, ...serviceProblems),
        },
      },
    },
    async (request) => {
      const { policy } = await heldPolicy(policies, request.params.name);
      return simulatePolicy(policy, request.body);
    },
  );
};

/** A version that held, ready to decide. */
export const heldPolicy = async (
  policies: HttpContext["policies"],
  reference: string,
): Promise<{ name: string; policy: RetryPolicy }> => {
  const { name, version, policy } = await policies.get(reference);
  if (policy !== null) return { name: `${name}@${version}`, policy: parsePolicy(policy) };
  throw new EscapementError("policy_not_found", `${name}@${version} is the version that deleted it.`);
};
