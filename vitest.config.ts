import { defineConfig } from "vitest/config";

/**
 * Three projects: `unit` needs nothing but Node and runs in seconds; `slow` needs no more and takes longer (it starts
 * programs, or looks for every planted bug); `real` runs against the services that `scripts/services.mjs` starts (Redis,
 * RocketMQ) and therefore one file at a time.
 */
export default defineConfig({
  test: {
    // Some tests only wait, so that one more than there are cores is quicker.
    maxWorkers: 3,
    projects: [
      {
        test: {
          name: "unit",
          include: ["src/**/*.test.ts", "test/**/*.test.ts"],
          exclude: ["**/*.real.test.ts", "**/*.slow.test.ts", "**/node_modules/**"],
          testTimeout: 20_000,
        },
      },
      {
        test: {
          name: "slow",
          include: ["src/**/*.slow.test.ts", "test/**/*.slow.test.ts"],
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: "real",
          include: ["src/**/*.real.test.ts", "test/**/*.real.test.ts"],
          exclude: ["**/node_modules/**"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
