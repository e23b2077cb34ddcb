// Types of scripts/services.mjs for the tests, which are TypeScript; the scripts themselves stay plain JavaScript
// because they run before `npm install`, also on a Node that does not strip types.

export type ServiceName = "redis" | "rocketmq" | "mysql" | "rocketmq-cluster";

export interface ServiceAddresses {
  redis?: { url: string };
  rocketmq?: { endpoint: string; nameserver: string; broker: string };
  mysql?: { url: string };
  "rocketmq-cluster"?: RocketmqClusterAddresses;
}

export interface RocketmqClusterAddresses {
  /** gRPC `host:port` of the first proxy. */
  endpoint: string;
  secondEndpoint: string;
  /** Remoting `host:port;host:port`. */
  nameserver: string;
  /** Remoting `host:port` of all four brokers, comma separated. */
  brokers: string;
}

/** One started instance. Plain data: it may be written to a file and used by another process. */
export interface ServiceHandle {
  service: ServiceName;
  /** `redis`, or `redis-NAME` for a named one. */
  instance: string;
  runDir: string;
  /** Configuration, logs and data of this instance. */
  folder: string;
  ports: Record<string, number>;
  /** By role: `server` for Redis and MySQL; `nameserver` and `proxy` (which carries the broker) for RocketMQ. As of the moment the handle was made. */
  pids: Record<string, number>;
}

export interface RedisHandle extends ServiceHandle {
  url: string;
}

export interface MysqlHandle extends ServiceHandle {
  /** With a user that may do everything and an empty database named `escapement`. */
  url: string;
}

export interface RocketmqHandle extends ServiceHandle {
  /** gRPC `host:port` for clients. */
  endpoint: string;
  /** Remoting `host:port`. */
  nameserver: string;
  /** Remoting `host:port` for creating topics and groups. */
  broker: string;
}

/** Roles: `nameserver-1`, `nameserver-2`, `controller-3`, `broker-a-1` to `broker-b-2`, `proxy-1`, `proxy-2`. */
export interface RocketmqClusterHandle extends ServiceHandle, RocketmqClusterAddresses {}

export interface ServiceStatus extends ServiceHandle {
  condition: "running" | "partly" | "stopped";
}

export interface WhichServices {
  /** When absent or empty: all, except that `rocketmq-cluster` is started only when it is named. */
  names?: ServiceName[] | undefined;
  /** Default: `.run/services` of this checkout. */
  runDir?: string | undefined;
}

export interface WhichInstance {
  runDir: string;
  /** Absent: the service's one unnamed instance, which `startServices` starts too. */
  name?: string | undefined;
  /** Hears about slow one-time steps (installing, downloading). */
  say?: ((line: string) => void) | undefined;
}

export declare const defaultRunDir: string;

export declare function startServices(
  which?: WhichServices & { say?: ((line: string) => void) | undefined },
): Promise<ServiceAddresses>;
/** Answers with the instances that were running. */
export declare function stopServices(which?: WhichServices): Promise<string[]>;
export declare function statusServices(which?: WhichServices): ServiceStatus[];

/** `config`: raw redis.conf keys laid over ours. */
export declare function startRedis(
  which: WhichInstance & { config?: Record<string, string | number> | undefined },
): Promise<RedisHandle>;

/** `masters` is at least 3, the default. Resolves when every node sees all slots served. */
export declare function startRedisCluster(
  which: WhichInstance & { masters?: number | undefined; config?: Record<string, string | number> | undefined },
): Promise<{ nodes: RedisHandle[]; urls: string[] }>;

/** `config`: raw my.cnf keys laid over ours. */
export declare function startMysql(
  which: WhichInstance & { config?: Record<string, string | number> | undefined },
): Promise<MysqlHandle>;

/** `config`: raw broker.conf entries; `proxyConfig`: raw rmq-proxy.json entries; both laid over ours. */
export declare function startRocketmq(
  which: WhichInstance & {
    timerPrecisionMs?: 100 | 200 | 500 | 1000 | undefined;
    config?: Record<string, string | number | boolean> | undefined;
    proxyConfig?: Record<string, string | number | boolean> | undefined;
  },
): Promise<RocketmqHandle>;

/** The files of deploy/rocketmq-cluster, on this machine. Resolves when every acknowledgement means two copies. */
export declare function startRocketmqCluster(which: WhichInstance): Promise<RocketmqClusterHandle>;

/** The master of each broker group and how many replicas (itself included) are in step, as the controllers know it. */
export declare function clusterState(
  cluster: RocketmqClusterHandle,
): Promise<Record<"a" | "b", { master: string | undefined; inStep: number }>>;

/** Resolves when each group has a master and a replica in step with it. */
export declare function untilInStep(cluster: RocketmqClusterHandle): Promise<void>;

/** Default signal SIGKILL. Waits for the end after SIGKILL and SIGTERM; SIGSTOP and SIGCONT return at once. */
export declare function killService(
  handle: ServiceHandle,
  signal?: NodeJS.Signals,
  options?: { role?: string | undefined },
): Promise<void>;

/** Starts whatever of the instance is missing: same ports, same data. */
export declare function startAgain<Handle extends ServiceHandle>(handle: Handle): Promise<Handle>;
