import type {
  JoinedTransaction,
  SqlExecutor,
  SqlRow,
  SqlValue,
  TransactionalDatabase,
} from "../../tx/database.port.ts";
import { bare } from "./bare-error.ts";

/**
 * Transactions of the common libraries, each by its public way to run a statement of one's own. No library is imported:
 * these are the shapes of what their users hold in their hands.
 *
 * Each function takes a transaction, to join it (`mq.in(fromKnex(trx))`), or the database, for transactions that the
 * producer begins (`db: fromKnex(knex)`).
 *
 * What they can say about an object that is no open transaction differs. Knex and TypeORM know it; Prisma refuses;
 * Drizzle and Kysely show whether it is a transaction at all. An ended one of those is found by the savepoint, unless
 * its connection is in another transaction by then.
 */
type Library<Tx> = JoinedTransaction & TransactionalDatabase<Tx>;

const isSelect = (sql: string): boolean => /^\s*SELECT\b/i.test(sql);

/** A statement with `?` as what a template tag gets. Statements of ours hold `?` only for values. */
const asTemplate = (sql: string): TemplateStringsArray => {
  const parts = sql.split("?");
  return Object.assign(parts, { raw: parts }) as unknown as TemplateStringsArray;
};

/** mysql2 answers `[rows, fields]`, and a header in place of the rows when there are none. */
const rowsOf = (result: unknown): readonly SqlRow[] => {
  const rows = Array.isArray(result) ? result[0] : undefined;
  return Array.isArray(rows) ? (rows as SqlRow[]) : [];
};

const library = <Tx>(
  connection: object,
  execute: (sql: string, values: readonly SqlValue[]) => Promise<readonly SqlRow[]>,
  fault: () => string | undefined,
  begin: <T>(work: (tx: Tx) => Promise<T>) => Promise<T>,
  executorOf: (tx: Tx) => SqlExecutor,
): Library<Tx> => ({
  ...bareExecutor({ execute }),
  connection,
  fault,
  transaction: (work) => begin((tx) => work(tx, bareExecutor(executorOf(tx)))),
});

const bareExecutor = ({ execute }: SqlExecutor): SqlExecutor => ({
  execute: (sql, values) => bare(() => execute(sql, values)),
});

const notOne = (what: string): string =>
  `This is ${what}, not a transaction; hand over what the library gives to the callback of its transaction.`;

// --- Drizzle ------------------------------------------------------------------------------------------------------

type DrizzleLike = {
  // biome-ignore lint/suspicious/noExplicitAny: Drizzle's own parameter type is its SQL class, which is not imported.
  execute(query: any): PromiseLike<unknown>;
};
type DrizzleDatabase<Tx> = DrizzleLike & { transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T> };
type TemplateTag = (strings: TemplateStringsArray, ...values: never[]) => unknown;

/** `fromDrizzle(tx, sql)` with Drizzle's own `sql`. Needs its mysql2 driver. */
export const fromDrizzle = <Tx extends DrizzleLike>(db: DrizzleDatabase<Tx>, sql: TemplateTag): Library<Tx> => {
  const executorOf = (one: DrizzleLike): SqlExecutor => ({
    execute: async (text, values) => rowsOf(await one.execute(sql(asTemplate(text), ...(values as never[])))),
  });
  const fault = () =>
    typeof (db as { rollback?: unknown }).rollback === "function" ? undefined : notOne("Drizzle's database");
  return library<Tx>(db, executorOf(db).execute, fault, (work) => db.transaction(work), executorOf);
};

// --- Kysely -------------------------------------------------------------------------------------------------------

type KyselyTag = (
  strings: TemplateStringsArray,
  ...values: never[]
) => {
  // biome-ignore lint/suspicious/noExplicitAny: the tables of the caller's database do not matter here.
  execute(db: any): Promise<{ rows: readonly unknown[] }>;
};
type KyselyLike<Tx> = {
  readonly isTransaction: boolean;
  transaction(): { execute<T>(work: (tx: Tx) => Promise<T>): Promise<T> };
};

/** `fromKysely(trx, sql)` with Kysely's own `sql`. */
export const fromKysely = <Tx>(db: KyselyLike<Tx>, sql: KyselyTag): Library<Tx> => {
  const executorOf = (one: unknown): SqlExecutor => ({
    execute: async (text, values) =>
      (await sql(asTemplate(text), ...(values as never[])).execute(one)).rows as SqlRow[],
  });
  const fault = () => (db.isTransaction ? undefined : notOne("Kysely's database"));
  return library<Tx>(db, executorOf(db).execute, fault, (work) => db.transaction().execute(work), executorOf);
};

// --- Knex ---------------------------------------------------------------------------------------------------------

type KnexLike = {
  // biome-ignore lint/suspicious/noExplicitAny: Knex's type of a binding is a union of its own classes.
  raw(sql: string, bindings: any): PromiseLike<unknown>;
  readonly isTransaction?: boolean;
  isCompleted?(): boolean;
};
// biome-ignore lint/suspicious/noExplicitAny: overloads of Knex that its users' types resolve.
type KnexDatabase<Tx> = KnexLike & { transaction(work: (tx: Tx) => Promise<any>): Promise<any> };

export const fromKnex = <Tx extends KnexLike>(db: KnexDatabase<Tx>): Library<Tx> => {
  const executorOf = (one: KnexLike): SqlExecutor => ({
    execute: async (text, values) => rowsOf(await one.raw(text, values)),
  });
  const fault = (): string | undefined => {
    if (db.isTransaction !== true) return notOne("Knex's database");
    return db.isCompleted?.() === true ? "This Knex transaction has ended; send before it does." : undefined;
  };
  return library<Tx>(db, executorOf(db).execute, fault, (work) => db.transaction(work), executorOf);
};

// --- TypeORM ------------------------------------------------------------------------------------------------------

type TypeOrmRunner = { readonly isTransactionActive: boolean; readonly isReleased: boolean };
type TypeOrmLike = {
  // biome-ignore lint/suspicious/noExplicitAny: TypeORM answers whatever the driver does.
  query(sql: string, parameters?: any): Promise<any>;
};
type TypeOrmManager<Tx> = TypeOrmLike & {
  readonly queryRunner?: TypeOrmRunner | undefined;
  transaction<T>(work: (manager: Tx) => Promise<T>): Promise<T>;
};

/** Takes an EntityManager (of a transaction), or the DataSource. */
export const fromTypeOrm = <Tx extends TypeOrmLike>(manager: TypeOrmManager<Tx>): Library<Tx> => {
  const executorOf = (one: TypeOrmLike): SqlExecutor => ({
    execute: async (text, values) => {
      const result: unknown = await one.query(text, [...values]);
      return Array.isArray(result) ? (result as SqlRow[]) : [];
    },
  });
  const fault = (): string | undefined => {
    const runner = manager.queryRunner;
    if (runner === undefined) return notOne("TypeORM's own manager or data source");
    return runner.isReleased || !runner.isTransactionActive
      ? "This TypeORM transaction has ended; send before it does."
      : undefined;
  };
  return library<Tx>(manager, executorOf(manager).execute, fault, (work) => manager.transaction(work), executorOf);
};

// --- Prisma -------------------------------------------------------------------------------------------------------

type PrismaTransaction = {
  $executeRawUnsafe(sql: string, ...values: never[]): PromiseLike<number>;
  $queryRawUnsafe(sql: string, ...values: never[]): PromiseLike<unknown>;
};
type PrismaDatabase<Tx> = PrismaTransaction & { $transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T> };

/** Takes the client of an interactive transaction, or the PrismaClient. */
export const fromPrisma = <Tx extends PrismaTransaction>(db: Tx | PrismaDatabase<Tx>): Library<Tx> => {
  const executorOf = (one: PrismaTransaction): SqlExecutor => ({
    execute: async (text, values) => {
      if (isSelect(text)) return (await one.$queryRawUnsafe(text, ...(values as never[]))) as SqlRow[];
      await one.$executeRawUnsafe(text, ...(values as never[]));
      return [];
    },
  });
  // A transaction has $transaction, too (Prisma 7 nests them by savepoints); what it never has is a connection to open.
  const isClient = typeof (db as { $connect?: unknown }).$connect === "function";
  const fault = () => (isClient ? notOne("a PrismaClient") : undefined);
  const begin = <T>(work: (tx: Tx) => Promise<T>): Promise<T> => (db as PrismaDatabase<Tx>).$transaction(work);
  return library<Tx>(db, executorOf(db).execute, fault, begin, executorOf);
};
