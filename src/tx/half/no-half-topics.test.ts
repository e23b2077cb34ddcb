import { expect, it } from "vitest";
import type { MessageId } from "../../message/id.ts";
import type { TxMode } from "../tx-mode.port.ts";
import { withoutHalfTopics } from "./no-half-topics.ts";

class Session {
  readonly #sent: string[];
  constructor(sent: string[]) {
    this.#sent = sent;
  }
  async send(_: unknown, { topic }: { topic: string }) {
    this.#sent.push(topic);
    return { id: topic };
  }
}

it("an ordinary message to a topic of half messages is refused before anything is written; others go", async () => {
  const sent: string[] = [];
  const mode = { begin: () => new Session(sent) } as unknown as TxMode;
  const session = withoutHalfTopics(mode, new Set(["orders_tx"])).begin("tx" as MessageId, true);
  const sql = { execute: async () => [] };
  for (const message of [
    { topic: "orders_tx", body: "x" },
    { topic: "orders_tx", body: "x", delay: "1m" },
  ]) {
    await expect(session.send(sql, message)).rejects.toMatchObject({ code: "half_topic" });
  }
  await session.send(sql, { topic: "orders", body: "x" });
  expect(sent).toEqual(["orders"]);
});
