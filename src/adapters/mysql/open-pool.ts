import { createPool, type Pool } from "mysql2/promise";

/** A pool of our own, for commands that are given an address. Ended by whoever opened it. */
export const openMysqlPool = (url: string, { connections }: { readonly connections: number }): Pool =>
  createPool({ uri: url, connectionLimit: connections, charset: "utf8mb4" });
