import { isTxError, TxError } from "../../tx/tx-error.ts";
import { causesOf, errnoOf } from "./mysql-failure.ts";

/**
 * A database error without its statement. Drivers and libraries hang statement and values on their errors (`sql`,
 * `query`, `parameters`, `params`), some in the message itself, and the values of ours are message bodies. So callers
 * get an error that is made anew from what the server said, and from the numbers that are decided by.
 */
export const bareError = (error: unknown): unknown => {
  if (isTxError(error)) return error;
  const chain = [...causesOf(error)];
  const first = (name: string): string | undefined =>
    chain.map((one) => one[name]).find((value): value is string => typeof value === "string" && value !== "");
  const [code, sqlState, errno] = [first("code"), first("sqlState"), errnoOf(error)];
  const said = first("sqlMessage") ?? first("originalMessage") ?? withoutStatement(first("message"));
  if (errno === cannotPrepare) {
    const text =
      "The library prepares its statements, and MySQL prepares no SAVEPOINT. With Prisma: new PrismaMariaDb(config, { useTextProtocol: true }).";
    return new TxError("savepoint_refused", text);
  }
  const text =
    said ??
    `The database ${errno === undefined ? "did not answer" : "refused"} a statement of the outbox: ${code ?? errno ?? "no reason given"}`;
  return Object.assign(new Error(text), {
    ...(code === undefined ? undefined : { code }),
    ...(errno === undefined ? undefined : { errno }),
    ...(sqlState === undefined ? undefined : { sqlState }),
    ...(first("sqlMessage") === undefined ? undefined : { sqlMessage: said }),
  });
};

/** All statements of ours name something of this prefix. */
const withoutStatement = (message: string | undefined): string | undefined =>
  message?.includes("escapement_") ? undefined : message;

/** "This command is not supported in the prepared statement protocol yet": MySQL's, and MariaDB's before 10.6. */
const cannotPrepare = 1295;

/** Runs a statement of ours on somebody else's connection. */
export const bare = async <T>(run: () => PromiseLike<T>): Promise<T> => {
  try {
    return await run();
  } catch (error) {
    throw bareError(error);
  }
};
