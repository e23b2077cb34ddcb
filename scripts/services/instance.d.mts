// What a service module must provide (redis.mjs and rocketmq.mjs are the examples; a new service is one such table and
// one line in services.mjs), and the one function that tests call with a table of their own.

import type { WhichInstance } from "../services.d.mts";

export type Ports = Record<string, number>;

export interface Role<P extends Ports = Ports> {
  role: string;
  /** Roles with the same wave start and stop together. */
  wave?: number;
  /** Every port the process opens, also those it derives from another. */
  ports(ports: P): number[];
  /** Rejects until the process serves. */
  ready(ports: P): Promise<void>;
}

export interface Service<P extends Ports = Ports> {
  service: string;
  /** Started only when it is named; stopped and shown like any other. */
  onlyByName?: boolean;
  readyMaxMs: number;
  stopGraceMs: number;
  /** In the order of starting; stopped in reverse. */
  roles: Role<P>[];
  choosePorts(options: Record<string, unknown>): Promise<P>;
  /** Finds or fetches programs; its answer goes to `commands`. Not asked when everything already runs. */
  requirements(say: (line: string) => void): Promise<unknown>;
  commands(given: {
    folder: string;
    ports: P;
    options: Record<string, unknown>;
    requirements: unknown;
  }): Record<string, { command: string; args: string[]; env?: Record<string, string> }>;
  address(ports: P): Record<string, string>;
}

export declare function startInstance<P extends Ports>(
  service: Service<P>,
  which: WhichInstance & { options?: Record<string, unknown>; keepPorts?: boolean },
): Promise<unknown>;
