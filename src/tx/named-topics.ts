import { EscapementError } from "../message/errors.ts";
import type { TxMessage } from "./outgoing.ts";

/**
 * The names (`dedupe`) that one transaction has given, and the topic of each. A name is one message, whatever its topic:
 * a second topic under it would be a message that is never sent, and nobody would be told.
 *
 * It knows one transaction. Of a name that another one has given, the row that waits is kept, in silence as documented.
 */
export class NamedTopics {
  readonly #topics = new Map<string, string>();

  async sending<T>({ dedupe, messageGroup, topic }: TxMessage, send: () => Promise<T>): Promise<T> {
    if (typeof dedupe !== "string") return send();
    const name = `${messageGroup ?? ""}\0${dedupe}`;
    const earlier = this.#topics.get(name);
    if (earlier !== undefined && earlier !== topic) throw twoTopics(earlier, topic);
    if (earlier !== undefined) return send();
    // Before it is written: sends may be under way at the same time.
    this.#topics.set(name, topic);
    try {
      return await send();
    } catch (error) {
      this.#topics.delete(name);
      throw error;
    }
  }
}

const twoTopics = (earlier: string, topic: string): EscapementError =>
  new EscapementError(
    "invalid_field",
    `dedupe names a message to ${earlier} in this transaction already, and a name is one message over all topics; give the message to ${topic} another, such as the same with the topic in front.`,
    { field: "dedupe" },
  );
