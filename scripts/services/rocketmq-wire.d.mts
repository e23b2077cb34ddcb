/** One request in RocketMQ's remoting protocol to 127.0.0.1; rejects unless it is answered with success. */
export declare function remotingRequest(
  port: number,
  code: number,
  extFields?: Record<string, string>,
  limitMs?: number,
): Promise<{ header: { extFields?: Record<string, string> }; body: string }>;

export declare const requestCodes: Record<
  "maxOffset" | "routeOfTopic" | "topicConfig" | "replicasOfGroup" | "controllerMetadata",
  number
>;
