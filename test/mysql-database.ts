import { randomBytes } from "node:crypto";
import { createPool, type Pool, type RowDataPacket } from "mysql2/promise";

/** A database of a test's or benchmark's own on the real server, so that one does not meet the rows of another. */
export type OwnDatabase = AsyncDisposable & {
  readonly url: string;
  /** One connection to the server. */
  readonly admin: Pool;
};

/** @param serverUrl of a user who may create databases */
export const openOwnDatabase = async (serverUrl: string, charset = "CHARACTER SET utf8mb4"): Promise<OwnDatabase> => {
  const name = `test_${process.pid}_${randomBytes(6).toString("hex")}`;
  const admin = createPool({ uri: serverUrl, connectionLimit: 1 });
  await dropLeftovers(admin);
  await admin.query(`CREATE DATABASE ${name} ${charset}`);
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  return {
    url: url.href,
    admin,
    async [Symbol.asyncDispose]() {
      await admin.query(`DROP DATABASE ${name}`);
      await admin.end();
    },
  };
};

/** A run that was interrupted could not drop its databases: who made one is in its name, and is gone. */
const dropLeftovers = async (admin: Pool): Promise<void> => {
  const [found] = await admin.query<RowDataPacket[]>("SHOW DATABASES");
  for (const { Database: name } of found as { Database: string }[]) {
    const pid = /^test_(\d+)_[0-9a-f]{12}$/.exec(name)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) await admin.query(`DROP DATABASE IF EXISTS ${name}`);
  }
};

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
};
