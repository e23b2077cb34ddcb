import { defineConfig } from "vitest/config";

/**
 * Three projects: `unit` needs nothing but Node and runs in seconds; `process` starts programs of ours (the command
 * line, npm pack) and takes a while; `real` runs against the services that `scripts/services.mjs` starts (Redis,
 * RocketMQ) and therefore one file at a time.
 */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["src/**/*.test.ts", "test/**/*.test.ts"],
          exclude: ["**/*.real.test.ts", "**/*.process.test.ts", "**/node_modules/**"],
          testTimeout: 20_000,
        },
      },
      {
        test: {
          name: "process",
          include: ["src/**/*.process.test.ts", "test/**/*.process.test.ts"],
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
