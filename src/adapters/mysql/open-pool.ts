import { createPool, type Pool } from "mysql2/promise";

/** A pool of our own, for commands that are given an address. Ended by whoever opened it. */
export const openMysqlPool = (url: string, { connections }: { readonly connections: number }): Pool => {
  // Node's own errors have the whole address in them, with the password, or do not say what they are about.
  if (!isAddress(url)) {
    throw new TypeError("the database's address is no URL such as mysql://user:password@host:3306/name");
  }
  return createPool({ uri: url, connectionLimit: connections, charset: "utf8mb4" });
};

const isAddress = (url: string): boolean => {
  try {
    const { username, password } = new URL(url);
    return decodeURIComponent(username + password) !== undefined;
  } catch {
    return false;
  }
};
