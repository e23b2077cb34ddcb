import type { FastifyRequest, onRequestHookHandler } from "fastify";
import type { DeadUseCases } from "../dead/dead.port.ts";
import type { Dependencies } from "../dependencies/dependencies.port.ts";
import type { Intake } from "../ingest/intake.port.ts";
import type { EscapementError } from "../message/errors.ts";
import type { Policies } from "../policies/policies.port.ts";
import type { ConsumerGroups } from "./consumer-groups.port.ts";
import type { HttpLimits } from "./http-limits.ts";
import type { SafeParse } from "./json-text.ts";
import type { Overview } from "./overview.port.ts";
import type { Patience } from "./patience.ts";

/** What the route files are given. */
export type HttpContext = {
  readonly intake: Intake;
  readonly dead: DeadUseCases;
  readonly overview: Overview;
  readonly groups: ConsumerGroups;
  readonly dependencies: Dependencies;
  readonly policies: Policies;
  readonly limits: HttpLimits;
  readonly patience: Patience;
  readonly safeParse: SafeParse;
  /** For work of more than some milliseconds: lets everything else have its turn. */
  readonly breathe: () => Promise<void>;
  /** From the credential. */
  readonly tenantOf: (request: FastifyRequest) => string;
  /** Looks at a request's headers before its body is read; every route with a body has it as `onRequest`. */
  readonly admitRequest: (bytesMax: number, streamed?: boolean) => onRequestHookHandler;
  /** Turns anything thrown into one of our errors, and logs it when it is a bug. */
  readonly errorOf: (error: unknown) => EscapementError;
};
