import { connectionLimitOf, type Mysql2Pool } from "./adapters/mysql/mysql-connection.ts";
import { EscapementError } from "./message/errors.ts";
import type { HalfTiming } from "./tx/half/half-timing.ts";
import type { RelaySettings } from "./tx/relay.ts";
import { TxError } from "./tx/tx-error.ts";
import type { DelayServerAddress } from "./tx-delay-server.ts";
import type { TxRocketmq } from "./tx-parts.ts";
import type { RunRelayOptions, TxHalfOptions, TxProducerOptions } from "./tx-producer.ts";
import type { InboxSettings } from "./tx-tables.ts";

/**
 * The options of `escapement/tx`, checked before anything is opened: every field's name, kind and range, in one table a
 * door. Most callers are checked by TypeScript already; this is for those who are not, and for what types do not say. A
 * misspelt option would otherwise be a wish that nobody fulfils (`order: "Strict"` is no order at all).
 *
 * @throws EscapementError `invalid_config` with the field, TxError `half_missing`
 */
export const checkProducerOptions = <Tx>(options: TxProducerOptions<Tx>): void => {
  producerOptions(options, "options");
  if (options.mode === "half" && options.half === undefined) {
    throw new TxError("half_missing", 'mode: "half" needs half: { topics }, the topics whose messages go that way.');
  }
};

export const checkRelayOptions = (options: RunRelayOptions): void => relayOptions(options, "options");

export const checkInboxOptions = (options: InboxSettings): void => inboxOptions(options, "options");

/** Two for the fast path and the relay, one now and then for taking shards, and one for a transaction. */
const connectionsMin = { outbox: 4, half: 6 };

/** The pool for what is outside of transactions; large enough for what we hold of it ourselves. */
export const poolOf = <Tx>({ pool: given, db, half }: TxProducerOptions<Tx>): Mysql2Pool => {
  const pool = given ?? (db as { pool?: Mysql2Pool }).pool;
  if (pool === undefined) {
    throw mistake("pool", "is missing: give the relay and the fast path a mysql2 pool, or db: fromMysql2(pool)");
  }
  const limit = connectionLimitOf(pool);
  const [held, neededMin] =
    half === undefined ? (["two", connectionsMin.outbox] as const) : (["three", connectionsMin.half] as const);
  if (limit !== undefined && limit < neededMin) {
    throw mistake(
      "pool",
      `has ${limit} connections; the producer holds ${held} of them, so give it ${neededMin} or more`,
    );
  }
  return pool;
};

type Rule = (value: unknown, field: string) => void;
type Rules<T> = { readonly [Field in keyof Required<T>]: Rule };

const mistake = (field: string, why: string): EscapementError =>
  new EscapementError("invalid_config", `${field} ${why}.`, { field });

const shown = (value: unknown): string =>
  typeof value === "string"
    ? JSON.stringify(value.slice(0, 40))
    : typeof value === "number"
      ? `${value}`
      : typeof value;

const rule =
  (what: string, holds: (value: unknown) => boolean): Rule =>
  (value, field) => {
    if (!holds(value)) throw mistake(field, `must be ${what}, not ${value === null ? "null" : shown(value)}`);
  };

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const object = rule("an object", isObject);
const text = rule("a text that is not blank", (value) => typeof value === "string" && value.trim() !== "");
const yesOrNo = rule("true or false", (value) => typeof value === "boolean");
const callable = rule("a function", (value) => typeof value === "function");
const texts: Rule = (value, field) => {
  if (!Array.isArray(value)) throw mistake(field, "must be an array of texts");
  value.forEach((one, i) => {
    text(one, `${field}[${i}]`);
  });
};
const oneOf = (...choices: readonly string[]): Rule =>
  rule(choices.map((choice) => `"${choice}"`).join(" or "), (value) => choices.includes(value as string));
const whole = (min: number, max = Number.MAX_SAFE_INTEGER): Rule =>
  rule(
    max === Number.MAX_SAFE_INTEGER ? `a whole number, ${min} or more` : `a whole number from ${min} to ${max}`,
    (value) => Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max,
  );
const orFalse =
  (other: Rule): Rule =>
  (value, field) => {
    if (value !== false) other(value, field);
  };

/** Fields that are undefined are absent, as the spread of optional parts leaves them. */
const shape = <T>(rules: Rules<T>, required: readonly (keyof T & string)[] = []): Rule => {
  const known = new Map<string, Rule>(Object.entries(rules));
  return (value, field) => {
    object(value, field);
    const below = (name: string): string => (field === "options" ? name : `${field}.${name}`);
    for (const name of Object.keys(value as object)) {
      if (!known.has(name)) {
        throw mistake(below(name.slice(0, 40)), `is not an option; there are ${[...known.keys()].join(", ")}`);
      }
    }
    for (const [name, check] of known) {
      const one = (value as Record<string, unknown>)[name];
      if (one !== undefined) check(one, below(name));
      else if (required.includes(name as never)) throw mistake(below(name), "is missing");
    }
  };
};

const has = (value: unknown, method: string): boolean =>
  typeof value === "object" && value !== null && typeof (value as Record<string, unknown>)[method] === "function";

/** mysql2 without "/promise" has another pool, whose methods take callbacks: nothing would ever be answered. */
const pool = rule(
  "a pool of mysql2/promise (of mysql2: pool.promise())",
  (value) => has(value, "getConnection") && !has(value, "promise"),
);
const database = rule(
  "fromMysql2(pool), or what fromDrizzle, fromKnex, fromKysely, fromPrisma or fromTypeOrm make of a database",
  (value) => has(value, "transaction"),
);

const rocketmq = shape<TxRocketmq>(
  { endpoint: text, credentials: object, tls: object, sendTimeoutMs: whole(1, 3_600_000) },
  ["endpoint"],
);

const escapement = shape<DelayServerAddress>({ url: text, headers: object }, ["url"]);

/** `batch` and `perSecondMax` have the ranges that `escapement relay` has. */
const relaySettings = shape<RelaySettings>({
  batch: whole(1, 1_000),
  parallel: whole(1, 64),
  idlePollMs: (value, field) => {
    if (!Array.isArray(value) || value.length !== 2) throw mistake(field, "must be two numbers, such as [50, 1000]");
    value.forEach((one, i) => {
      whole(1, 60_000)(one, `${field}[${i}]`);
    });
  },
  leaseMs: whole(100, 3_600_000),
  perSecondMax: whole(1, 1_000_000),
  keepOutcomesMs: whole(0),
});

const half = shape<TxHalfOptions>(
  {
    topics: texts,
    delayedTopics: texts,
    ingestTopic: text,
    watchGroup: text,
    admin: texts,
    keepBodyBytesMax: whole(0),
    rebuild: callable,
    isReplica: yesOrNo,
    timing: shape<HalfTiming>({
      turnMs: whole(1),
      commitWithinMs: whole(0),
      backstopAfterMs: whole(1),
      backstopLatestMs: whole(1),
      keepSettledMs: whole(1),
    }),
  },
  ["topics"],
);

const producerOptions = shape<TxProducerOptions<never>>(
  {
    rocketmq,
    db: database,
    pool,
    escapement,
    mode: oneOf("outbox", "half"),
    half,
    order: oneOf("key", "strict"),
    fastPath: orFalse(shape<{ graceMs?: number }>({ graceMs: whole(0, 3_600_000) })),
    relay: orFalse(relaySettings),
    outsideTx: oneOf("throw", "send-now"),
    keepOutcomesMs: whole(0),
    ingestTopic: text,
    log: object,
  },
  ["rocketmq", "db"],
);

const relayOptions = shape<RunRelayOptions>(
  { rocketmq, pool, escapement, settings: relaySettings, ingestTopic: text, log: object },
  ["rocketmq", "pool"],
);

const inboxOptions = shape<InboxSettings>({ pool, keepMs: whole(1) }, ["pool", "keepMs"]);
