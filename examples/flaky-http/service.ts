import { createServer } from "node:http";

/**
 * A service as others run them: it charges orders, a hundred a second at most, and now and then it is down. By default
 * it is up for 15 s and down for 20 s, again and again.
 */
export const startFlakyService = async ({ upMs = 15_000, downMs = 20_000 } = {}) => {
  const beganMs = Date.now();
  const isUp = () => (Date.now() - beganMs) % (upMs + downMs) < upMs;
  const calls = { answered: 0, refused: 0 };
  const charged = new Set<string>();
  let secondMs = 0;
  let inSecond = 0;
  const server = createServer((request, response) => {
    const nowMs = Date.now();
    if (nowMs - secondMs >= 1_000) {
      secondMs = nowMs;
      inSecond = 0;
    }
    if (!isUp()) {
      calls.refused++;
      response.writeHead(503).end();
    } else if (++inSecond > 100) {
      calls.refused++;
      response.writeHead(429, { "retry-after": "1" }).end();
    } else {
      calls.answered++;
      charged.add(String(request.headers["idempotency-key"]));
      response.writeHead(204).end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return { url: `http://127.0.0.1:${port}`, isUp, calls, charged, close: () => server.close() };
};
