import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import { type FastifyInstance, type FastifyRequest, fastify } from "fastify";
import type { DeadUseCases } from "../dead/dead.port.ts";
import type { Dependencies } from "../dependencies/dependencies.port.ts";
import type { Intake } from "../ingest/intake.port.ts";
import { EscapementError } from "../message/errors.ts";
import type { Policies } from "../policies/policies.port.ts";
import type { Log } from "../runtime/log.ts";
import { sleep, type Timers } from "../runtime/timers.ts";
import { admitRequest } from "./admit-request.ts";
import { finishClosing } from "./closing.ts";
import type { ConsumerGroups } from "./consumer-groups.port.ts";
import { deadSchemas } from "./dead-schemas.ts";
import { dependencySchemas } from "./dependency-schemas.ts";
import type { HttpContext } from "./http-context.ts";
import { defaultHttpLimits, type HttpLimits } from "./http-limits.ts";
import { parseJson, type SafeParse } from "./json-text.ts";
import { LoadGate } from "./load-gate.ts";
import { openapi } from "./openapi.ts";
import type { Overview } from "./overview.port.ts";
import { Patience } from "./patience.ts";
import { policySchemas } from "./policy-schemas.ts";
import { answerBrokenRequest, createErrorHandler, errorOf, replyWithProblem } from "./problem-reply.ts";
import { readBody } from "./read-body.ts";
import { replySchemas } from "./reply-schemas.ts";
import { requestSchemas } from "./request-schemas.ts";
import { retrySchemas } from "./retry-schemas.ts";
import { RouteTable } from "./route-table.ts";
import { batchRoutes } from "./routes/batch.ts";
import { consumerGroupRoutes } from "./routes/consumer-groups.ts";
import { consumerRoutes } from "./routes/consumers.ts";
import { deadRoutes } from "./routes/dead.ts";
import { dependencyRoutes } from "./routes/dependencies.ts";
import { messageRoutes } from "./routes/message.ts";
import { processRoutes } from "./routes/process.ts";
import { redriveRoutes } from "./routes/redrives.ts";
import { retryRoutes } from "./routes/retry.ts";
import { retryBindingRoutes } from "./routes/retry-bindings.ts";
import { retryPolicyRoutes } from "./routes/retry-policies.ts";
import { retryReplayRoutes } from "./routes/retry-replay.ts";
import { scheduleRoutes } from "./routes/schedule.ts";

/**
 * The HTTP API. It reads requests, hands them to the intake and writes what comes back; it decides nothing about
 * messages. Not fastify's validation: schemas describe requests for the reference, admit checks them (its errors say
 * what to change, and the ingest topic shares them), so the validator compiler lets everything pass.
 *
 * What surprised us: fastify answers 503 in its own shape while closing, closes the connection after every body that
 * it could not parse, and takes a trickling body for as long as Node's one timeout for whole requests allows.
 */
export type AppOptions = {
  readonly intake: Intake;
  readonly dead: DeadUseCases;
  readonly overview: Overview;
  readonly groups: ConsumerGroups;
  readonly policies: Policies;
  readonly dependencies: Dependencies;
  readonly log: Log;
  readonly timers: Timers;
  readonly limits?: Partial<HttpLimits>;
  /** Whose messages a request is about, from its credential; throws when there is none. Default: one tenant. */
  readonly tenantOf?: (request: FastifyRequest) => string;
};

export const createApp = (options: AppOptions): FastifyInstance => {
  const { intake, dead, overview, groups, policies, dependencies, log } = options;
  const limits: HttpLimits = { ...defaultHttpLimits, ...options.limits };
  const patience = new Patience(options.timers, limits.receiveTimeoutMs);
  const gate = new LoadGate(limits.inFlightRequestsMax, limits.inFlightBytesMax);
  const handleError = createErrorHandler(log, patience);

  const app = fastify({
    logger: false,
    bodyLimit: limits.batchBytesMax,
    requestTimeout: limits.streamTimeoutMs,
    connectionTimeout: limits.idleTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    return503OnClosing: false,
    // Queries are read by the routes themselves, strictly.
    routerOptions: { querystringParser: () => noQuery, maxParamLength: 128 },
    http: {
      maxHeaderSize: limits.headerBytesMax,
      headersTimeout: limits.receiveTimeoutMs,
      connectionsCheckingInterval: Math.ceil(limits.receiveTimeoutMs / 8),
    },
    frameworkErrors: handleError,
    clientErrorHandler: answerBrokenRequest,
  });
  app.server.maxConnections = limits.connectionsMax;
  app.setValidatorCompiler(() => () => true);
  app.setErrorHandler(handleError);
  app.addHook("preClose", async () => {
    if (app.server.listening) finishClosing(app.server, options.timers, limits.closeGraceMs);
  });

  const safeParse = safeParseOf(app);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/json", (request, payload, done) => {
    const { method } = request.raw;
    readBody(payload, request.routeOptions.bodyLimit ?? limits.batchBytesMax, patience, (error, body) => {
      if (error !== null) return done(error);
      // Clients that set the type on everything send DELETE with none.
      if (body?.length === 0 && method === "DELETE") return done(null, undefined);
      try {
        done(null, parseJson(body!, safeParse));
      } catch (refusal) {
        done(refusal as Error);
      }
    });
  });

  const routes = new RouteTable();
  app.addHook("onRoute", (route) => routes.add(route.method, route.url));
  app.setNotFoundHandler((request, reply) => {
    const methods = routes.methodsOf(request.raw.url ?? "/");
    const detail =
      methods.length > 0
        ? `${request.method} is not taken here; this route takes ${methods.join(", ")}.`
        : "There is no such route; /docs lists them.";
    if (methods.length > 0) reply.header("allow", methods.join(", "));
    return replyWithProblem(reply, new EscapementError("route_not_found", detail));
  });

  const context: HttpContext = {
    intake,
    dead,
    overview,
    groups,
    policies,
    dependencies,
    limits,
    patience,
    safeParse,
    breathe: () => sleep(options.timers, 0),
    tenantOf: options.tenantOf ?? (() => "default"),
    admitRequest: admitRequest(gate),
    errorOf: (error) => {
      const known = errorOf(error);
      if (known.code === "internal") log.error({ err: error }, "unexpected error");
      return known;
    },
  };
  const schemas = [requestSchemas, replySchemas, retrySchemas, policySchemas, deadSchemas, dependencySchemas];
  for (const schema of schemas.flat()) app.addSchema(schema);
  app.register(swagger, openapi);
  app.register(swaggerUi, { routePrefix: "/docs", staticCSP: true });
  app.register(async (scope) => {
    scheduleRoutes(scope, context);
    messageRoutes(scope, context);
    deadRoutes(scope, context);
    redriveRoutes(scope, context);
    consumerRoutes(scope, context);
    dependencyRoutes(scope, context);
    retryRoutes(scope, context);
    consumerGroupRoutes(scope, context);
    processRoutes(scope, context);
    scope.get("/openapi.json", { schema: { hide: true } }, () => app.swagger());
  });
  app.register(async (scope) => {
    // Written by schema, a policy would get the defaults that nobody wrote.
    scope.setSerializerCompiler(() => JSON.stringify);
    retryPolicyRoutes(scope, context);
    retryBindingRoutes(scope, context);
  });
  // In scopes of their own: only here is application/x-ndjson a type that is read.
  app.register(async (scope) => batchRoutes(scope, context));
  app.register(async (scope) => retryReplayRoutes(scope, context));
  return app;
};

const noQuery = Object.freeze({});

/** Fastify's JSON parser, which refuses names that reach an object's prototype, as a plain function. */
const safeParseOf = (app: FastifyInstance): SafeParse => {
  const parse = app.getDefaultJsonParser("error", "error");
  return (text) => {
    let failure: Error | null = null;
    let value: unknown;
    // It calls back before it returns; the request is not looked at.
    parse(undefined as never, text, (error, parsed) => {
      failure = error;
      value = parsed;
    });
    if (failure !== null) throw failure;
    return value;
  };
};
