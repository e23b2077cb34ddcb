import { createPool, type Pool } from "mysql2/promise";

/** A pool of our own, for commands that are given an address. Ended by whoever opened it. */
export const openMysqlPool = (url: string, { connections }: { readonly connections: number }): Pool => {
  // Node's own error has the whole address in it, with the password.
  if (!URL.canParse(url))
    throw new TypeError("the database's address is no URL such as mysql://user:password@host:3306/name");
  return createPool({ uri: url, connectionLimit: connections, charset: "utf8mb4" });
};
