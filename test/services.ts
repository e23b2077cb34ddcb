import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/**
 * The addresses of the real services that `*.real.test.ts` files run against: from the environment variable
 * ESC_TEST_SERVICES (JSON), or those that `scripts/services.mjs` has running in this repository.
 */
export type Services = {
  readonly redis: { readonly url: string };
  readonly rocketmq: { readonly endpoint: string; readonly nameserver: string; readonly broker: string };
  readonly mysql: { readonly url: string };
};

const script = fileURLToPath(new URL("../scripts/services.mjs", import.meta.url));

const running = async (): Promise<Partial<Services>> => {
  const given = process.env.ESC_TEST_SERVICES;
  if (given !== undefined && given !== "") return JSON.parse(given) as Partial<Services>;
  const { stdout } = await promisify(execFile)(process.execPath, [script, "status", "--json"]);
  return JSON.parse(stdout) as Partial<Services>;
};

export const services = async (): Promise<Services> => {
  const { redis, rocketmq, mysql } = await running();
  if (redis === undefined || rocketmq === undefined || mysql === undefined) {
    const missing = redis === undefined ? "Redis" : rocketmq === undefined ? "RocketMQ" : "MySQL";
    throw new Error(`${missing} is not running; start the test services with: npm run services -- start`);
  }
  return { redis, rocketmq, mysql };
};
