import { createServer } from "node:net";
import { expect, it } from "vitest";
import { notListening } from "./listen-address.ts";

const failure = (host: string, port: number): Promise<unknown> =>
  new Promise((resolve) => createServer().on("error", resolve).listen(port, host));

it("says which setting to change when an address is taken, or is not this machine's", async () => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const { port } = taken.address() as { port: number };
  const said = async (host: string, at: number): Promise<string> =>
    String(notListening(await failure(host, at), { host, port: at }, "the HTTP API", "HTTP_ADDR"));
  expect(await said("127.0.0.1", port)).toBe(
    `Error: another program listens on 127.0.0.1:${port}: stop it, or give the HTTP API another address (HTTP_ADDR)`,
  );
  taken.close();
  // 192.0.2.0/24 is for documentation, and nobody's.
  expect(await said("192.0.2.1", 7361)).toBe(
    "Error: the HTTP API cannot listen on 192.0.2.1:7361 (EADDRNOTAVAIL): give it an address of this machine (HTTP_ADDR)",
  );
});
