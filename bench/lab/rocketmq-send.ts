import { consoleTables, runProgram } from "./printed-tables.ts";
import type { Benchmark } from "./row.ts";

/** The RocketMQ adapter alone: `rocketmq-send.bench.ts` sends to and receives from the real broker. */
export const benchmark: Benchmark = async (lab, report) => {
  const { redis, rocketmq } = lab;
  const text = await runProgram("rocketmq-send.bench.ts", [lab.quick ? "0.3" : "3"], {
    ESC_TEST_SERVICES: JSON.stringify({ redis: { url: redis.url }, rocketmq }),
  });
  for (const row of consoleTables(text)) {
    report({
      id: `rocketmq/${row[""]}`,
      what: `RocketMQ adapter: ${row[""]}`,
      durability: "none",
      perSecond: Number(row["messages/s"]),
      cpuMicros: { server: Number(row["CPU µs per message"]) },
      numbers: {},
    });
  }
};
