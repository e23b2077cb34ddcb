import { createMysqlBarrier } from "./adapters/mysql/mysql-barrier.ts";
import { connectionLimitOf, type Mysql2Pool } from "./adapters/mysql/mysql-connection.ts";
import { classifyMysqlFailure } from "./adapters/mysql/mysql-failure.ts";
import { mysqlOutboxWriter } from "./adapters/mysql/mysql-outbox-writer.ts";
import { examineCluster, type TxDoctorOptions } from "./half-doctor.ts";
import { startHalfMode } from "./half-mode.ts";
import { EscapementError } from "./message/errors.ts";
import { parseMessageId } from "./message/id.ts";
import { type Log, silentLog } from "./runtime/log.ts";
import type { TransactionalDatabase } from "./tx/database.port.ts";
import type { DoctorReport } from "./tx/doctor/doctor.ts";
import { FastPath } from "./tx/fast-path.ts";
import type { Rebuild } from "./tx/half/backstop.ts";
import { withHalves } from "./tx/half/half-status.ts";
import type { HalfTiming } from "./tx/half/half-timing.ts";
import { createHalfTxMode } from "./tx/half/half-tx-mode.ts";
import { refuseHalfTopic, withoutHalfTopics } from "./tx/half/no-half-topics.ts";
import { createOutboxMode } from "./tx/outbox-mode.ts";
import { isOwned } from "./tx/outcomes.ts";
import { checkMessageFields, outgoing, type TxMessage } from "./tx/outgoing.ts";
import type { RelaySettings } from "./tx/relay.ts";
import type { RowSender } from "./tx/row-sender.ts";
import { RolledBack, statusOf, type TxStatus } from "./tx/status.ts";
import { Transactions, type TxSender } from "./tx/transaction.ts";
import type { TxCountsSnapshot } from "./tx/tx-counts.ts";
import { TxError } from "./tx/tx-error.ts";
import type { SentInTx } from "./tx/tx-mode.port.ts";
import type { DelayServerAddress } from "./tx-delay-server.ts";
import { type Joinable, joinedOf } from "./tx-join.ts";
import { checkProducerOptions, checkRelayOptions, poolOf } from "./tx-options.ts";
import { ingestTopicDefault, joinTxParts, type TxParts, type TxPartsOptions, type TxRocketmq } from "./tx-parts.ts";

/**
 * Transactional sends, for applications: rows and messages together or not at all. What users import as
 * `escapement/tx`; the parts are in src/tx, joined here with MySQL and RocketMQ.
 *
 *   const mq = await createTxProducer({ rocketmq: { endpoint }, db: fromMysql2(pool) });
 *   await mq.transaction(async (tx, q) => {
 *     await tx.query("INSERT INTO orders …");
 *     await q.send({ topic: "orders", key: id, json: order });
 *   });
 */
export { fromDrizzle, fromKnex, fromKysely, fromPrisma, fromTypeOrm } from "./adapters/mysql/from-libraries.ts";
export { fromMysql2, type Mysql2Database } from "./adapters/mysql/from-mysql2.ts";
export type { TxDoctorOptions } from "./half-doctor.ts";
export type { JoinedTransaction, SqlExecutor, TransactionalDatabase } from "./tx/database.port.ts";
export type { DoctorReport } from "./tx/doctor/doctor.ts";
export type { Finding } from "./tx/doctor/findings.ts";
export type { TxMessage, TxMessageRef } from "./tx/outgoing.ts";
export type { TxEvidence, TxStatus } from "./tx/status.ts";
export type { TxSender } from "./tx/transaction.ts";
export type { TxCountsSnapshot } from "./tx/tx-counts.ts";
export { isTxError, TxError, type TxErrorCode, txErrorTable } from "./tx/tx-error.ts";
export type { SentInTx } from "./tx/tx-mode.port.ts";
export { createInbox, type Inbox, migrate, withOutboxDesk } from "./tx-tables.ts";

export type { TxRocketmq };

export type TxProducerOptions<Tx> = {
  readonly rocketmq: TxRocketmq;
  /** Where transactions begin. */
  readonly db: TransactionalDatabase<Tx>;
  /** A mysql2 pool to the same database, for everything outside of your transactions. Default: the one in `db`. */
  readonly pool?: Mysql2Pool;
  /** The delay server's HTTP address. Needed for `cancel` only. */
  readonly escapement?: DelayServerAddress;
  /**
   * `half`: messages to the topics named in `half` go as RocketMQ's half messages. `outbox` (default without `half`): none
   * do; with `half` given, those that were sent so before are still answered for, and sends to its topics are refused
   * (`half_topic`): a topic has one type, so the topic's name must change with the mode. See docs/transactions.md.
   */
  readonly mode?: "outbox" | "half";
  readonly half?: TxHalfOptions;
  /**
   * `key` (default): messages of one key leave in the order of their INSERTs, which is that of the commits when the
   * transactions lock the thing that the key names first. `strict`: in the order of the commits, by a lock held from the
   * send to the commit.
   */
  readonly order?: "key" | "strict";
  /** Sending right after COMMIT; false leaves all to the relay. `graceMs`: how long the relay leaves it alone, 5,000. */
  readonly fastPath?: { readonly graceMs?: number } | false;
  /** A relay in this process (default); false when `escapement relay` runs. */
  readonly relay?: Partial<RelaySettings> | false;
  /** What `mq.send` does: `throw` (default), or send at once and without any row. */
  readonly outsideTx?: "throw" | "send-now";
  /**
   * How long `status` can say that a transaction was committed, 15 minutes or more; of all relays on a database the
   * shortest counts. 0 saves a row for each transaction, and then `status` knows only what waits, and fences nothing.
   */
  readonly keepOutcomesMs?: number;
  readonly ingestTopic?: string;
  readonly log?: Log;
};

export type TxHalfOptions = {
  /** Of type TRANSACTION, and sent to by nobody else. */
  readonly topics: readonly string[];
  /** Topics of other types; delayed messages to them go as halves by `ingestTopic`. */
  readonly delayedTopics?: readonly string[];
  /** The delay server's topic for transactional messages. Default: its ingest topic with `_TX`, when `delayedTopics` is given. */
  readonly ingestTopic?: string;
  /** Consumer group in which these topics are watched; one for each database. Default ESC_TX_SEEN_ and eight letters of the database's own. */
  readonly watchGroup?: string;
  /** Brokers' remoting addresses (`host:10911`): makes topics and group where they are missing; `doctor` asks there. */
  readonly admin?: readonly string[];
  /** Bodies up to this are kept in the database until they are seen, 65,536 by default; 0: none. */
  readonly keepBodyBytesMax?: number;
  /** Makes a body that was not kept anew from the business rows. */
  readonly rebuild?: Rebuild;
  /** `pool` leads to a replica that does not know it is one: then this process answers no checks. */
  readonly isReplica?: boolean;
  readonly timing?: Partial<HalfTiming>;
};

export type TxProducer<Tx> = AsyncDisposable & {
  /** Begins, runs the callback, commits; messages are sent after COMMIT. Deadlocks run the whole callback again. */
  transaction<T>(callback: (tx: Tx, q: TxSender) => Promise<T>): Promise<T>;
  /** Joins a transaction that somebody else began and will commit; its messages go by the relay. */
  in(tx: Joinable): TxSender;
  /** Outside of a transaction: as `outsideTx` says. */
  send(message: TxMessage): Promise<SentInTx>;
  /**
   * What became of a transaction. `fence`: makes sure that one which has not committed by now never will (for a day);
   * only of what began in the last 14 minutes under a producer that keeps outcomes, otherwise it stays `unknown`.
   */
  status(txId: string, options?: { readonly fence?: boolean }): Promise<TxStatus>;
  /** Whether this cluster can do what half messages need; changes nothing. Needs `half.admin`. */
  doctor(options?: TxDoctorOptions): Promise<DoctorReport>;
  counts(): TxCountsSnapshot;
  /** Sends what the fast path holds, gives back its shards. The pool stays open. */
  close(): Promise<void>;
};

const graceMsDefault = 5_000;
const keepOutcomesMsDefault = 15 * 60_000;
const halfReadyMs = 5_000;

/** @throws EscapementError `invalid_config`; TxError `half_missing`, `outbox_missing`, `outbox_too_old`, `outbox_too_new`. */
export const createTxProducer = async <Tx>(options: TxProducerOptions<Tx>): Promise<TxProducer<Tx>> => {
  checkProducerOptions(options);
  const { db, order = "key", outsideTx = "throw", log = silentLog } = options;
  const pool = poolOf(options);
  const parts = await joinTxParts({ ...options, pool, log });
  const { clock, timers, random, counts, outbox, sender } = parts;
  const keepOutcomesMs = options.keepOutcomesMs ?? keepOutcomesMsDefault;
  const graceMs = options.fastPath === false ? 0 : (options.fastPath?.graceMs ?? graceMsDefault);
  const relay = options.relay === false ? undefined : parts.relay({ keepOutcomesMs, ...options.relay });
  const relayExpects = (): void => {
    relay?.relay.expect();
    relay?.loop.wake();
  };
  const fastPath =
    options.fastPath === false
      ? undefined
      : new FastPath({ outbox, sender, clock, log, counts, graceMs, relayExpects });
  const rolledBack = new RolledBack();
  const { half: halfOptions, rocketmq } = options;
  const half =
    halfOptions === undefined
      ? undefined
      : await startHalf({ half: halfOptions, rocketmq, pool, log, ...withIngest(options.ingestTopic) }, parts).catch(
          async (error: unknown) => {
            await parts.close();
            throw error;
          },
        );
  const halfTopics: ReadonlySet<string> = half?.mode.topics ?? new Set();
  const ordinary = createOutboxMode({
    writer: mysqlOutboxWriter,
    shardCount: outbox.shardCount,
    order,
    graceMs,
    fastPath,
    relayExpects,
    canCancel: options.escapement !== undefined,
    marks: keepOutcomesMs > 0,
    classify: classifyMysqlFailure,
    clock,
    random,
  });
  const outboxMode = halfTopics.size === 0 ? ordinary : withoutHalfTopics(ordinary, halfTopics);
  const halfMode =
    half === undefined || options.mode === "outbox"
      ? undefined
      : createHalfTxMode({
          half: half.mode.transactions,
          otherwise: outboxMode,
          topics: new Set(halfOptions?.topics),
          delayedTopics: new Set(halfOptions?.delayedTopics),
          marks: keepOutcomesMs > 0,
          writer: mysqlOutboxWriter,
          classify: classifyMysqlFailure,
          clock,
          random,
        });
  const transactions = new Transactions<Tx>({
    db,
    mode: halfMode ?? outboxMode,
    writer: mysqlOutboxWriter,
    marks: keepOutcomesMs > 0,
    classify: classifyMysqlFailure,
    clock,
    timers,
    random,
    counts,
    rolledBack: (txId) => rolledBack.add(txId),
    isPartCommitted: async (txId) => {
      const { mark, waiting, dead } = await outbox.outcome(txId);
      if (mark?.outcome === "committed" || waiting.length + dead.length > 0) return true;
      const halves = (await half?.barrier.ofTransaction(txId)) ?? [];
      return halves.some(({ state }) => state === "committed");
    },
    // A note that cannot be written leaves "unknown", which is true as long as nobody fences.
    endedInside: async (txId) => {
      if (keepOutcomesMs > 0)
        await outbox
          .noteEndedInside(txId)
          .catch((err: unknown) =>
            log.warn({ err, txId }, "not noted that this transaction was ended by its callback"),
          );
    },
  });
  relay?.loop.start();
  let closing: Promise<void> | undefined;
  const assertOpen = (): void => {
    if (closing !== undefined) throw new TxError("closed", "This producer was closed; make another one.");
  };
  const close = async (): Promise<void> => {
    await fastPath?.close();
    await halfMode?.settled();
    await half?.stop();
    await relay?.stop();
    await parts.close();
  };
  const producer: TxProducer<Tx> = {
    async transaction(callback) {
      assertOpen();
      if (typeof callback !== "function") throw new TypeError("transaction needs the callback that does the work");
      return transactions.run(callback);
    },
    in(tx) {
      assertOpen();
      return transactions.join(joinedOf(tx));
    },
    async send(message) {
      assertOpen();
      if (outsideTx === "throw") {
        const text =
          'Send inside mq.transaction or by mq.in(tx); outsideTx: "send-now" allows sending without a transaction.';
        throw new TxError("outside_transaction", text);
      }
      checkMessageFields(message);
      refuseHalfTopic(message, halfTopics);
      return sendNow(sender, message, parts);
    },
    async status(txId, { fence = false } = {}) {
      assertOpen();
      const id = typeof txId === "string" ? parseMessageId(txId) : undefined;
      if (id === undefined) {
        throw new EscapementError("invalid_id", "txId must be the UUID that q.txId says.", { field: "txId" });
      }
      const status = await statusOf({ txId: id, fence, outbox, rolledBack });
      return half === undefined ? status : withHalves(status, await half.barrier.ofTransaction(id), isOwned(id));
    },
    async doctor(asked = {}) {
      assertOpen();
      if (half === undefined || halfOptions === undefined) {
        throw new TxError("half_missing", "Give createTxProducer the option half, or use: escapement tx doctor.");
      }
      const topics = [...half.mode.topics];
      return examineCluster({ ...asked, topics, brokers: halfOptions.admin ?? [], session: rocketmq, log });
    },
    counts: () => counts.snapshot(),
    close() {
      closing ??= close();
      return closing;
    },
    [Symbol.asyncDispose]: () => producer.close(),
  };
  return producer;
};

/** Each check takes a connection, for up to a second; at most half of what is left of the pool goes to them. */
const checksAtOnce = (limit = Number.POSITIVE_INFINITY): number =>
  Math.max(1, Math.min(8, Math.floor((limit - 3) / 2)));

const withIngest = (ingestTopic: string | undefined) => (ingestTopic === undefined ? {} : { ingestTopic });

/** Resolves when the proxy knows us, so that the first half is asked about and seen; or after a while all the same. */
const startHalf = async (
  { half, rocketmq, pool, log, ingestTopic = ingestTopicDefault }: TxPartsOptions & { readonly half: TxHalfOptions },
  { clock, timers, random }: TxParts,
) => {
  const { topics, delayedTopics = [], isReplica = false, ...rest } = half;
  const barrier = createMysqlBarrier({ pool, isReplica });
  const forDelayed = half.ingestTopic ?? (delayedTopics.length > 0 ? `${ingestTopic}_TX` : undefined);
  const mode = await startHalfMode({
    ...rocketmq,
    ...rest,
    ...(forDelayed === undefined ? {} : { ingestTopic: forDelayed }),
    topics,
    barrier,
    checksAtOnceMax: checksAtOnce(connectionLimitOf(pool)),
    clock,
    timers,
    random,
    log,
  }).catch(async (error: unknown) => {
    await barrier.close();
    throw error;
  });
  const stop = async (): Promise<void> => {
    await mode.stop();
    await barrier.close();
  };
  // A broker that is away must not keep the application from starting: what is sent meanwhile goes by the backstop.
  await mode.ready(halfReadyMs).catch((err: unknown) => log.warn({ err }, "half messages cannot be sent yet"));
  return { mode, barrier, stop };
};

export type RunRelayOptions = {
  readonly rocketmq: TxRocketmq;
  readonly pool: Mysql2Pool;
  readonly escapement?: DelayServerAddress;
  readonly settings?: Partial<RelaySettings>;
  readonly ingestTopic?: string;
  readonly log?: Log;
};

/** A relay without a producer: what `escapement relay` runs. */
export const startRelay = async (
  options: RunRelayOptions,
): Promise<{ counts(): TxCountsSnapshot; stop(): Promise<void> }> => {
  checkRelayOptions(options);
  const { log = silentLog } = options;
  const parts = await joinTxParts({ ...options, log });
  const { loop, stop } = parts.relay(options.settings ?? {});
  loop.start();
  return {
    counts: () => parts.counts.snapshot(),
    async stop() {
      await stop();
      await parts.close();
    },
  };
};

const sendNow = async (sender: RowSender, message: TxMessage, { clock, random }: TxParts): Promise<SentInTx> => {
  const nowMs = clock.nowMs();
  const row = outgoing(message, { nowMs, random, shardCount: 1 });
  const { due, ...rest } = row;
  const dueAtMs = due === undefined ? undefined : "atMs" in due ? due.atMs : nowMs + due.afterMs;
  const [outcome] = await sender([{ ...rest, row: 0, attempts: 0, dueAtMs, createdAtMs: nowMs }]);
  if (outcome!.ok !== true) {
    const why = outcome!.ok === false ? `${outcome!.code}: ${outcome!.detail}` : "held";
    throw new TxError("send_failed", `The message may not be at the broker: ${why}`);
  }
  return { id: row.id, ...(row.head.key === undefined ? undefined : { key: row.head.key }) };
};
