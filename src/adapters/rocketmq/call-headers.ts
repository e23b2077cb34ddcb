import { createHmac } from "node:crypto";
import { Metadata } from "@grpc/grpc-js";
import type { Clock } from "../../runtime/clock.ts";

/**
 * What every call says about itself: who calls, when, how long it waits, and a signature when there are credentials.
 * The secret makes the signature and goes nowhere else.
 */
export type CallHeaders = (timeoutMs: number) => Metadata;

export type RocketmqCredentials = {
  readonly accessKey: string;
  readonly accessSecret: string;
  readonly securityToken?: string;
};

/** `20260131T235959Z`, the form that is also signed. */
const compactTime = (nowMs: number): string => `${new Date(nowMs).toISOString().slice(0, 19).replaceAll(/[-:]/g, "")}Z`;

const authorization = (known: RocketmqCredentials, time: string): string => {
  const signature = createHmac("sha1", known.accessSecret).update(time).digest("hex").toUpperCase();
  return `MQv2-HMAC-SHA1 Credential=${known.accessKey}, SignedHeaders=x-mq-date-time, Signature=${signature}`;
};

/** Headers change once a second and differ only in the timeout, so that a signature is made once a second. */
export const createCallHeaders = (clientId: string, clock: Clock, known?: RocketmqCredentials): CallHeaders => {
  let second = Number.NaN;
  const byTimeout = new Map<number, Metadata>();
  return (timeoutMs: number): Metadata => {
    const nowMs = clock.nowMs();
    const nowSecond = Math.floor(nowMs / 1000);
    if (nowSecond !== second) {
      byTimeout.clear();
      second = nowSecond;
    }
    const ready = byTimeout.get(timeoutMs);
    if (ready !== undefined) return ready;
    const time = compactTime(nowMs);
    const metadata = new Metadata();
    metadata.set("x-mq-protocol", "v2");
    metadata.set("x-mq-client-id", clientId);
    metadata.set("x-mq-date-time", time);
    // Must be names and versions that the broker's own tables know; it answers others with an internal error.
    metadata.set("x-mq-language", "OTHER");
    metadata.set("x-mq-client-version", "5.0.8");
    if (timeoutMs !== Number.POSITIVE_INFINITY) metadata.set("grpc-timeout", `${Math.ceil(timeoutMs)}m`);
    if (known !== undefined) {
      if (known.securityToken !== undefined) metadata.set("x-mq-session-token", known.securityToken);
      metadata.set("authorization", authorization(known, time));
    }
    byTimeout.set(timeoutMs, metadata);
    return metadata;
  };
};
