import { expect, it } from "vitest";
import { rocketmqAccess } from "./rocketmq-access.ts";

it("is what the variables of the server say; half a pair of keys is none", () => {
  const [ROCKETMQ_ACCESS_KEY, ROCKETMQ_ACCESS_SECRET] = ["k", "s"];
  expect(rocketmqAccess({})).toEqual({});
  expect(rocketmqAccess({ ROCKETMQ_TLS: "false", ROCKETMQ_ACCESS_KEY })).toEqual({});
  expect(rocketmqAccess({ ROCKETMQ_TLS: "true", ROCKETMQ_ACCESS_KEY, ROCKETMQ_ACCESS_SECRET })).toEqual({
    tls: {},
    credentials: { accessKey: "k", accessSecret: "s" },
  });
});
