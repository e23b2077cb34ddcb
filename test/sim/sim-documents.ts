import type { DocumentStore } from "../../src/documents/document-store.port.ts";
import { EscapementError } from "../../src/message/errors.ts";
import type { SimNode } from "./sim-node.ts";
import type { StoreServer } from "./store-server.ts";

/**
 * One node's way to the documents, which lie with the messages and share the store's troubles: a call takes time, may be
 * lost on its way there or back, and its effect may come after its caller has died.
 */
export const simDocuments = (
  truth: DocumentStore,
  server: StoreServer,
  node: SimNode,
  callTimeoutMs: number,
): DocumentStore => {
  const { world, random } = server;
  const call = <T>(what: string, effect: () => Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      let isOver = false;
      const fail = (detail: string): void => {
        if (isOver) return;
        isOver = true;
        reject(new EscapementError("store_unavailable", `documents, ${what}: ${detail}`));
      };
      world.after(callTimeoutMs, node, () => fail("no answer in time"));
      const { troubles } = server;
      const fate = random.float();
      if (fate < troubles.lostRequest) return;
      const isReplyLost = fate < troubles.lostRequest + troubles.lostReply;
      const delayMs = random.chance(troubles.slow) ? random.between(5, troubles.slowMs) : random.between(0.05, 0.4);
      world.after(delayMs, undefined, () => {
        if (server.isDown) {
          world.after(random.between(0, 5), node, () => fail("not connected"));
          return;
        }
        server.serve(() => {
          effect().then(
            (result) => {
              if (isReplyLost) return;
              world.after(random.between(0.05, 0.4), node, () => {
                if (isOver) return;
                isOver = true;
                resolve(result);
              });
            },
            (error: unknown) => fail(String(error)),
          );
        });
      });
    });
  return {
    read: (kind, name) => call(`read ${kind} ${name}`, () => truth.read(kind, name)),
    list: (kind, options) => call(`list ${kind}`, () => truth.list(kind, options)),
    write: (kind, name, body, expected) => call(`write ${kind} ${name}`, () => truth.write(kind, name, body, expected)),
    remove: (kind, name, expected) => call(`remove ${kind} ${name}`, () => truth.remove(kind, name, expected)),
    close: async () => {},
  };
};
