import type { HttpConnection } from "./http-connection.ts";
import { type Buckets, bucketsOf } from "./lateness-histogram.ts";
import { atRate, pause } from "./pace.ts";
import type { Server } from "./server-process.ts";

/** HTTP batches at a given rate, and what the server's own histogram says of them. */
export const perRequest = 100;

export const lookAt = async (server: Server): Promise<Buckets> => bucketsOf(await server.metrics());

/** Sends at the rate with whichever connection is free; a rate that cannot be held shows in the answer. */
export const sendAtRate = async (
  connections: readonly HttpConnection[],
  perSecond: number,
  durationMs: number,
  requests: readonly Buffer[],
): Promise<number> => {
  const free = [...connections];
  let open = 0;
  let accepted = 0;
  let owed = 0;
  let turn = 0;
  let refused = 0;
  const send = (): void => {
    while (owed > 0 && free.length > 0) {
      const connection = free.pop()!;
      owed--;
      open++;
      connection.send(requests[turn++ % requests.length]!, (status) => {
        open--;
        if (status === 200) accepted += perRequest;
        else refused++;
        free.push(connection);
        send();
      });
    }
  };
  await atRate(perSecond / perRequest, durationMs, () => {
    owed++;
    send();
  });
  owed = 0;
  while (open > 0) await pause(5);
  if (refused > 0) throw new Error(`${refused} requests were refused`);
  return accepted;
};
