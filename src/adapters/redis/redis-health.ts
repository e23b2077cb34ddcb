import type { Redis } from "ioredis";
import type { StoreCheck } from "../../delay/delay-store.port.ts";
import { type EpochMs, epochMs } from "../../message/time.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { RedisConnection } from "./redis-connection.ts";
import { redisFailure } from "./redis-errors.ts";

/**
 * Asks every primary what its promises are worth. A problem means that an accepted message could be lost or that
 * nothing can be accepted; a warning is for the operator's ear. Settings are read as they are now: someone may change
 * them while we run.
 */
export type Durability = "always" | "everysec";

export const checkRedis = async (
  connection: RedisConnection,
  clock: Clock,
  durability: Durability,
): Promise<StoreCheck> => {
  const nodes = connection.primaries();
  if (nodes.length === 0) throw redisFailure(undefined);
  try {
    const answers = await Promise.all(nodes.map((node) => askNode(node, clock)));
    const wanted = { durability, waitReplicas: connection.waitReplicas };
    const findings = answers.map((answer) => judgeNode(answer, wanted));
    const sayWhere = (sentence: string, i: number): string => {
      const { host, port } = nodes[i]!.options;
      return nodes.length === 1 ? sentence : `${host}:${port}: ${sentence}`;
    };
    return {
      // Redis draws a new one whenever it starts and whenever a replica becomes a primary.
      incarnation: answers
        .map(({ info }) => info.get("master_replid"))
        .sort()
        .join(),
      timeMs: answers[0]!.timeMs,
      roundTripMs: answers[0]!.roundTripMs,
      problems: findings.flatMap(({ problems }, i) => problems.map((sentence) => sayWhere(sentence, i))),
      warnings: findings.flatMap(({ warnings }, i) => warnings.map((sentence) => sayWhere(sentence, i))),
    };
  } catch (error) {
    throw redisFailure(error);
  }
};

export type NodeAnswer = {
  readonly timeMs: EpochMs;
  readonly roundTripMs: number;
  readonly info: ReadonlyMap<string, string>;
  /** Absent where the user may not read the configuration. */
  readonly config: ReadonlyMap<string, string> | undefined;
};

export type Wanted = { readonly durability: Durability; readonly waitReplicas: number };

const askNode = async (node: Redis, clock: Clock): Promise<NodeAnswer> => {
  const beganMs = clock.monotonicMs();
  const [seconds, micros] = await node.time();
  const roundTripMs = clock.monotonicMs() - beganMs;
  const [info, config] = await Promise.all([node.info(), configOf(node)]);
  return {
    timeMs: epochMs(Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)),
    roundTripMs,
    info: new Map(info.split("\r\n").map((line): [string, string] => [before(line, ":"), behind(line, ":")])),
    config,
  };
};

const configOf = async (node: Redis): Promise<ReadonlyMap<string, string> | undefined> => {
  try {
    const names = ["appendfsync", "zset-max-listpack-entries", "appendonly"];
    const pairs = (await node.call("config", "get", ...names)) as string[];
    return new Map(names.map((name): [string, string] => [name, pairs[pairs.indexOf(name) + 1] ?? ""]));
  } catch (error) {
    if (error instanceof Error && /^(NOPERM|ERR unknown command)/.test(error.message)) return undefined;
    throw error;
  }
};

export const judgeNode = ({ info, config }: NodeAnswer, { durability, waitReplicas }: Wanted) => {
  const problems: string[] = [];
  const warnings: string[] = [];
  const number = (name: string): number => Number(info.get(name) ?? 0);
  const [major, minor] = (info.get("redis_version") ?? "0.0").split(".").map(Number) as [number, number];
  if (major < 7) problems.push(`Redis is ${major}.${minor}, must be 7.0 or newer: scripts need its flags`);
  if (info.get("role") !== "master") problems.push("this Redis is a replica, must be the primary");

  if (info.get("aof_enabled") !== "1") problems.push("appendonly is off, must be on: accepted messages would be lost");
  if (info.get("aof_enabled") === "1" && info.get("aof_last_write_status") === "err") {
    problems.push("the last write of the append-only file failed; look at the disk");
  }
  const fsync = config?.get("appendfsync");
  if (fsync === undefined) {
    warnings.push(`CONFIG GET is not allowed, so appendfsync could not be checked; it must be ${durability}`);
  } else if (fsync === "everysec" && durability === "everysec") {
    warnings.push("appendfsync is everysec, as declared: a crash can lose about a second of accepted messages");
  } else if (fsync !== "always") {
    problems.push(`appendfsync is ${fsync}, must be ${durability}`);
  }

  const policy = info.get("maxmemory_policy");
  if (policy !== "noeviction") problems.push(`maxmemory-policy is ${policy}, must be noeviction`);
  if (number("evicted_keys") > 0) {
    warnings.push(`Redis has evicted ${number("evicted_keys")} keys since it started; messages may be among them`);
  }
  const [used, limit] = [number("used_memory"), number("maxmemory")];
  if (limit > 0 && used > limit * memoryShareMax) {
    warnings.push(`memory is at ${Math.round((used / limit) * 100)} % of maxmemory; accepting stops at 100 %`);
  }
  if (limit === 0) warnings.push("maxmemory is not set: Redis may grow until the system ends it");

  const replicas = number("connected_slaves");
  if (replicas < waitReplicas) problems.push(`${replicas} replicas are connected, ${waitReplicas} must confirm writes`);
  const entries = Number(config?.get("zset-max-listpack-entries") ?? 128);
  if (entries < 128)
    warnings.push(`zset-max-listpack-entries is ${entries}; below 128 the index needs four times the memory`);
  return { problems, warnings };
};

const memoryShareMax = 0.85;

const before = (text: string, mark: string): string => text.slice(0, Math.max(0, text.indexOf(mark)));
const behind = (text: string, mark: string): string => text.slice(text.indexOf(mark) + 1);
