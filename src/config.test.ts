import { describe, expect, it } from "vitest";
import { parseConfig } from "./config.ts";
import { EscapementError } from "./message/errors.ts";

const facts = { pid: 7, terminal: false };
const least = { REDIS_URL: "redis://127.0.0.1:6379", ROCKETMQ_ENDPOINT: "127.0.0.1:8081" };

describe("the configuration", () => {
  it("needs nothing: without addresses the store is a file and the broker is in this process", () => {
    const config = parseConfig({}, facts);
    expect(config).toMatchObject({ redis: undefined, rocketmq: undefined, dataDir: "./data", shards: 8 });
    expect(config.embeddedBroker).toEqual({ host: "127.0.0.1", port: 8081 });
  });

  it("works on the addresses it is given, and has a default for everything else", () => {
    const config = parseConfig(least, facts);
    expect(config.redis).toMatchObject({ url: least.REDIS_URL, durability: "always" });
    expect(config.rocketmq).toMatchObject({ endpoint: least.ROCKETMQ_ENDPOINT, tls: false });
    expect(config.http).toEqual({ host: "127.0.0.1", port: 7361 });
    expect(config).toMatchObject({ shards: 32, leaseMs: 10_000, ingest: { topic: "ESC_INGEST", receivers: 4 } });
    expect(config.node).toMatch(/-7$/);
  });

  it("reports all mistakes at once, each with its name and what would be right", () => {
    const env = {
      ...least,
      ROCKETMQ_ENDPOINT: "there",
      SHARDS: "many",
      LEASE_MS: "5",
      HTTP_ADDR: "here",
      DURABILITY: "no",
    };
    let thrown: unknown;
    try {
      parseConfig(env, facts);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(EscapementError);
    const lines = (thrown as EscapementError).message.split("\n");
    for (const name of ["ROCKETMQ_ENDPOINT", "SHARDS", "LEASE_MS", "HTTP_ADDR", "DURABILITY"]) {
      expect(lines.filter((line) => line.startsWith(name))).toHaveLength(1);
    }
  });

  it("never repeats a Redis URL, which may hold a password", () => {
    expect(() => parseConfig({ ...least, REDIS_URL: "http://user:canary@host" }, facts)).toThrow(
      /REDIS_URL must start/,
    );
    expect(() => parseConfig({ ...least, REDIS_URL: "http://user:canary@host" }, facts)).not.toThrow(/canary/);
  });

  it("never repeats a MySQL URL either, and knows where its tables are", () => {
    for (const url of ["http://user:canary@host/db", "mysql://user:canary@host", "mysql://user:canary@host/db?ssl=1"]) {
      expect(() => parseConfig({ ...least, MYSQL_URL: url }, facts)).toThrow(/MYSQL_URL must look like/);
      expect(() => parseConfig({ ...least, MYSQL_URL: url }, facts)).not.toThrow(/canary/);
    }
    const url = "mysql://user:canary@host:3306/db";
    expect(parseConfig({ ...least, MYSQL_URL: url }, facts).mysql).toEqual({ url, tablePrefix: "escapement_" });
    expect(parseConfig(least, facts).mysql).toBeUndefined();
    expect(() => parseConfig({ ...least, MYSQL_TABLE_PREFIX: "a;--" }, facts)).toThrow(/MYSQL_TABLE_PREFIX must be/);
  });

  it("takes an empty INGEST_TOPIC as: none", () => {
    expect(parseConfig({ ...least, INGEST_TOPIC: "" }, facts).ingest.topic).toBe("");
  });

  it("reads IPv6 addresses in brackets", () => {
    expect(parseConfig({ ...least, HTTP_ADDR: "[::1]:80" }, facts).http).toEqual({ host: "::1", port: 80 });
  });
});
