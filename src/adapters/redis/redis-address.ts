import { EscapementError } from "../../message/errors.ts";

/**
 * Where Redis is: `redis://[user:password@]host[:port][/db]`, `rediss://…` over TLS, or a Cluster by some of its nodes,
 * `redis+cluster://[user:password@]host:port,host:port` (`rediss+cluster://` over TLS).
 */
export type RedisAddress = {
  readonly isCluster: boolean;
  readonly nodes: readonly { readonly host: string; readonly port: number }[];
  readonly isTls: boolean;
  readonly username?: string;
  readonly password?: string;
  readonly database: number;
};

export const parseRedisAddress = (address: string): RedisAddress => {
  const parts = /^(rediss?)(\+cluster)?:\/\/(?:([^:@/]*)(?::([^@/]*))?@)?([^/@]+)(?:\/(\d+)?)?$/.exec(address);
  if (parts === null) throw mistake();
  const [, scheme, cluster, username, password, hosts, database] = parts;
  const nodes = hosts!.split(",").map(parseNode);
  if (cluster === undefined && nodes.length > 1) throw mistake();
  if (cluster !== undefined && database !== undefined && database !== "0") throw mistake();
  return {
    isCluster: cluster !== undefined,
    nodes,
    isTls: scheme === "rediss",
    ...(username ? { username: decodeURIComponent(username) } : {}),
    ...(password ? { password: decodeURIComponent(password) } : {}),
    database: Number(database ?? 0),
  };
};

const parseNode = (text: string): { host: string; port: number } => {
  const parts = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text.trim());
  const port = Number(parts?.[3] ?? 6379);
  if (parts === null || port < 1 || port > 65_535) throw mistake();
  return { host: parts[1] ?? parts[2]!, port };
};

/** Does not repeat the address: it may hold a password. */
const mistake = (): EscapementError =>
  new EscapementError(
    "invalid_config",
    "REDIS_URL is not an address of Redis: redis://host:6379, rediss://user:password@host, or redis+cluster://host:7000,host:7001",
    { field: "REDIS_URL" },
  );
