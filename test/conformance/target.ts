/**
 * A broker that the behaviours are run against. Topics and groups are made by its administration, because no client
 * can; the same two remoting calls work for both targets.
 */
export type Target = {
  readonly name: TargetName;
  /** What the table calls it, with its version. */
  readonly title: string;
  /** gRPC `host:port` for clients. */
  readonly endpoint: string;
  createTopic(name: string, type: TopicType, queues: number): Promise<void>;
  createGroup(name: string, settings: GroupSettings): Promise<void>;
  /** kill -9, then the same address and the same data again; resolves when it answers. */
  restart(): Promise<void>;
  stop(): Promise<void>;
};

export type TargetName = "real" | "embedded";
export type TopicType = "NORMAL" | "FIFO" | "DELAY" | "TRANSACTION";
export type GroupSettings = {
  /** Messages of one message group come one after the other. */
  readonly orderly?: boolean;
  /** Deliveries of one message before it goes to the group's dead letter topic. */
  readonly maxAttempts?: number;
};
