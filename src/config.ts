import { hostname } from "node:os";
import { EscapementError } from "./message/errors.ts";
import { type DurationMs, durationMs, hour, second } from "./message/time.ts";

/**
 * The configuration: environment variables, one table, one parse, all mistakes reported together. Which parts run is
 * decided by the addresses that are given, not by a mode.
 */
export type Config = {
  readonly http: { readonly host: string; readonly port: number };
  /** Where the embedded parts keep their files. */
  readonly dataDir: string;
  /** Undefined: messages are kept in an SQLite file. */
  readonly redis: RedisConfig | undefined;
  /** Undefined: documents (retry policies and the like) lie beside the messages. */
  readonly mysql: { readonly url: string; readonly tablePrefix: string } | undefined;
  /** Undefined: a broker of our own runs in this process. */
  readonly rocketmq: RocketmqConfig | undefined;
  readonly embeddedBroker: { readonly host: string; readonly port: number };
  readonly ingest: { readonly topic: string; readonly group: string; readonly receivers: number };
  readonly shards: number;
  readonly leaseMs: DurationMs;
  readonly dedupeWindowMs: DurationMs;
  readonly node: string;
  readonly log: { readonly level: string; readonly pretty: boolean };
};

export type RedisConfig = {
  readonly url: string;
  readonly namespace: string;
  readonly durability: "always" | "everysec";
  readonly waitReplicas: number;
};

export type RocketmqConfig = {
  readonly endpoint: string;
  /** Broker remoting addresses, for creating our own topics and groups; empty when not given. */
  readonly admin: readonly string[];
  readonly tls: boolean;
  readonly credentials: { readonly accessKey: string; readonly accessSecret: string } | undefined;
};

export type Setting = {
  readonly name: string;
  readonly meaning: string;
  /** As text, the way it would be written in the environment. Absent: it must be given. */
  readonly fallback?: string;
};

/** What can be set; `escapement serve --help` and docs/operations.md print this table. */
export const settings = [
  { name: "HTTP_ADDR", meaning: "host:port of the HTTP API", fallback: "127.0.0.1:7361" },
  {
    name: "REDIS_URL",
    meaning:
      "redis://host:port, rediss://… or redis+cluster://host:port,host:port; without it messages are kept in an SQLite file, and there is one process",
    fallback: "",
  },
  {
    name: "ROCKETMQ_ENDPOINT",
    meaning: "host:port of the RocketMQ 5 proxy (gRPC); without it a broker for development runs in this process",
    fallback: "",
  },
  { name: "DATA_DIR", meaning: "folder of the SQLite file and of the broker in this process", fallback: "./data" },
  { name: "BROKER_ADDR", meaning: "host:port of the broker in this process", fallback: "127.0.0.1:8081" },
  {
    name: "ROCKETMQ_ADMIN",
    meaning: "host:port of the brokers' remoting ports, comma separated, to create topics and groups",
    fallback: "",
  },
  { name: "ROCKETMQ_TLS", meaning: "true to talk TLS to the proxy", fallback: "false" },
  { name: "ROCKETMQ_ACCESS_KEY", meaning: "access key, when the proxy asks for one", fallback: "" },
  { name: "ROCKETMQ_ACCESS_SECRET", meaning: "its secret", fallback: "" },
  {
    name: "INGEST_TOPIC",
    meaning: "the RocketMQ topic that messages come in by, with _TX the one for transactional messages; empty for none",
    fallback: "ESC_INGEST",
  },
  { name: "INGEST_GROUP", meaning: "consumer group used on it", fallback: "ESC_INGEST_GROUP" },
  { name: "INGEST_RECEIVERS", meaning: "receive calls kept open on it, 1 to 32", fallback: "4" },
  {
    name: "SHARDS",
    meaning: "shards of the store, fixed at first start, 1 to 1024; default 32, in an SQLite file 8",
    fallback: "",
  },
  {
    name: "LEASE_MS",
    meaning: "after how long without a sign of life a process loses its shards, 1000 to 120000",
    fallback: "10000",
  },
  {
    name: "DEDUPE_WINDOW_MS",
    meaning: "how long ended messages are remembered, 60000 to 604800000",
    fallback: String(hour),
  },
  { name: "REDIS_NAMESPACE", meaning: "prefix of all keys", fallback: "esc" },
  {
    name: "MYSQL_URL",
    meaning:
      "mysql://user:password@host:port/database, where retry policies and the like are kept; without it they lie beside the messages",
    fallback: "",
  },
  { name: "MYSQL_TABLE_PREFIX", meaning: "what its tables' names begin with", fallback: "escapement_" },
  {
    name: "DURABILITY",
    meaning: "always: refuse to run unless Redis has appendfsync always; everysec: accept losing a second",
    fallback: "always",
  },
  {
    name: "WAIT_REPLICAS",
    meaning: "replicas that must have a message before it counts as accepted, 0 to 5",
    fallback: "0",
  },
  { name: "NODE_NAME", meaning: "name of this process, unique among its peers", fallback: "" },
  { name: "LOG_LEVEL", meaning: "debug, info, warn or error", fallback: "info" },
  { name: "LOG_FORMAT", meaning: "json or pretty; default pretty on a terminal", fallback: "" },
] as const satisfies readonly Setting[];

/** Enough for some dozens of processes to share. */
const shardsInRedis = 32;
/** One process shares with nobody, and asks each of them three times a second what is due. */
const shardsInFile = 8;

type SettingName = (typeof settings)[number]["name"];

/** Throws `invalid_config` with every mistake, one a line. */
export const parseConfig = (
  env: Readonly<Record<string, string | undefined>>,
  facts: { pid: number; terminal: boolean },
): Config => {
  const mistakes: string[] = [];
  const wrong = (name: SettingName, why: string): void => {
    mistakes.push(`${name} ${why}`);
  };
  const text = (name: SettingName): string => {
    const given = env[name]?.trim();
    if (given !== undefined && given !== "") return given;
    const setting: Setting = settings.find((candidate) => candidate.name === name)!;
    if (setting.fallback === undefined) wrong(name, `is missing: give ${setting.meaning}`);
    // An empty INGEST_TOPIC is an answer, not an absence.
    return name === "INGEST_TOPIC" && given !== undefined ? "" : (setting.fallback ?? "");
  };
  const number = (name: SettingName, min: number, max: number): number => {
    const value = Number(text(name));
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    wrong(name, `is "${text(name)}"; it must be a whole number from ${min} to ${max}`);
    return min;
  };
  const choice = <T extends string>(name: SettingName, choices: readonly T[]): T => {
    const value = text(name) as T;
    if (!choices.includes(value)) wrong(name, `is "${value}"; it must be one of ${choices.join(", ")}`);
    return value;
  };
  const address = (name: SettingName, value: string): { host: string; port: number } => {
    const match = /^(?:\[([0-9a-fA-F:]+)\]|([^\s:/[\]]+)):(\d{1,5})$/.exec(value);
    const port = Number(match?.[3]);
    if (match === null || port > 65_535) {
      if (value !== "") wrong(name, `is "${value}"; it must look like host:port`);
      return { host: "", port: 0 };
    }
    return { host: match[1] ?? match[2]!, port };
  };

  const http = address("HTTP_ADDR", text("HTTP_ADDR"));
  const url = text("REDIS_URL");
  // The URL may hold a password, so it is never repeated.
  if (url !== "" && !/^(redis|rediss|redis\+cluster|rediss\+cluster):\/\/\S+$/.test(url)) {
    wrong("REDIS_URL", "must start with redis://, rediss://, redis+cluster:// or rediss+cluster://");
  }
  const endpoint = text("ROCKETMQ_ENDPOINT");
  address("ROCKETMQ_ENDPOINT", endpoint);
  const embeddedBroker = address("BROKER_ADDR", text("BROKER_ADDR"));
  const admin = text("ROCKETMQ_ADMIN")
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
  for (const part of admin) address("ROCKETMQ_ADMIN", part);
  const accessKey = text("ROCKETMQ_ACCESS_KEY");
  const accessSecret = text("ROCKETMQ_ACCESS_SECRET");
  if ((accessKey === "") !== (accessSecret === ""))
    wrong("ROCKETMQ_ACCESS_SECRET", "and ROCKETMQ_ACCESS_KEY belong together");
  const topicName = /^[%|a-zA-Z0-9_-]{1,127}$/;
  const topic = text("INGEST_TOPIC");
  if (topic !== "" && !topicName.test(topic))
    wrong("INGEST_TOPIC", `is "${topic}"; RocketMQ allows letters, digits, _ - % |`);
  const group = text("INGEST_GROUP");
  if (!topicName.test(group)) wrong("INGEST_GROUP", `is "${group}"; RocketMQ allows letters, digits, _ - % |`);
  const namespace = text("REDIS_NAMESPACE");
  if (!/^[a-zA-Z0-9_-]{1,32}$/.test(namespace)) wrong("REDIS_NAMESPACE", "must be 1 to 32 letters, digits, _ or -");
  const mysqlUrl = text("MYSQL_URL");
  // It may hold a password too.
  if (mysqlUrl !== "" && !/^mysql:\/\/[^\s/]+\/[^\s/?]+$/.test(mysqlUrl)) {
    wrong("MYSQL_URL", "must look like mysql://user:password@host:port/database");
  }
  const tablePrefix = text("MYSQL_TABLE_PREFIX");
  if (!/^[a-z][a-z0-9_]{0,31}$/.test(tablePrefix)) {
    wrong("MYSQL_TABLE_PREFIX", "must be 1 to 32 lower case letters, digits and _, and begin with a letter");
  }
  const node = text("NODE_NAME");
  if (node !== "" && !/^[a-zA-Z0-9._-]{1,64}$/.test(node))
    wrong("NODE_NAME", "must be 1 to 64 letters, digits, . _ or -");
  const format = text("LOG_FORMAT");
  if (!["", "json", "pretty"].includes(format)) wrong("LOG_FORMAT", `is "${format}"; it must be json or pretty`);

  const durability = choice("DURABILITY", ["always", "everysec"]);
  const waitReplicas = number("WAIT_REPLICAS", 0, 5);
  const tls = choice("ROCKETMQ_TLS", ["true", "false"]) === "true";
  const credentials = accessKey === "" ? undefined : { accessKey, accessSecret };
  const config: Config = {
    http,
    dataDir: text("DATA_DIR"),
    redis: url === "" ? undefined : { url, namespace, durability, waitReplicas },
    mysql: mysqlUrl === "" ? undefined : { url: mysqlUrl, tablePrefix },
    rocketmq: endpoint === "" ? undefined : { endpoint, admin, tls, credentials },
    embeddedBroker,
    ingest: { topic, group, receivers: number("INGEST_RECEIVERS", 1, 32) },
    shards: text("SHARDS") === "" ? (url === "" ? shardsInFile : shardsInRedis) : number("SHARDS", 1, 1024),
    leaseMs: durationMs(number("LEASE_MS", second, 120 * second)),
    dedupeWindowMs: durationMs(number("DEDUPE_WINDOW_MS", 60 * second, 7 * 24 * hour)),
    node: node === "" ? `${hostname()}-${facts.pid}` : node,
    log: {
      level: choice("LOG_LEVEL", ["debug", "info", "warn", "error"]),
      pretty: format === "pretty" || (format === "" && facts.terminal),
    },
  };
  if (mistakes.length > 0) throw new EscapementError("invalid_config", mistakes.join("\n"));
  return config;
};
