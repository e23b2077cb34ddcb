import { reach } from "./runtime/failpoint.ts";
import { EscapementClient } from "./sdk/client.ts";
import { EscapementApiError } from "./sdk/errors.ts";
import type { DelayServer } from "./tx/delay-server.port.ts";

export type DelayServerAddress = { readonly url: string; readonly headers?: Record<string, string> };

/**
 * Cancels at the delay server.
 *
 * A message that is to be canceled may still be on its way through the ingest topic. So a key that is not known yet is
 * made known, by a placeholder that is canceled at once: what comes later under this key is then the second of its name.
 */
export const delayServerAt = ({ url, headers }: DelayServerAddress) => {
  const client = new EscapementClient({ url, ...(headers === undefined ? undefined : { headers }) });
  const cancel = async (key: string, messageGroup: string | undefined) => {
    const ref = messageGroup === undefined ? { key } : { key, messageGroup };
    try {
      await client.cancel(ref);
      return "canceled" as const;
    } catch (error) {
      if (!(error instanceof EscapementApiError)) throw error;
      if (error.code === "too_late") return "too-late" as const;
      if (error.code !== "not_found") throw error;
      return undefined;
    }
  };
  const port: DelayServer = {
    async cancel(key, messageGroup) {
      const done = await cancel(key, messageGroup);
      if (done !== undefined) return done;
      const group = messageGroup === undefined ? {} : { messageGroup };
      await client.schedule({
        topic: placeholderTopic,
        body: "canceled",
        key,
        delay: placeholderDelay,
        waitForTopic: true,
        ...group,
      });
      reach("cancel-name-taken");
      return (await cancel(key, messageGroup)) ?? "canceled";
    },
  };
  return { port, close: () => client.close() };
};

/** Never sent: it is canceled a moment later; should we die in between, the relay comes again within a minute. */
const placeholderTopic = "ESC_CANCELED";
const placeholderDelay = "1d";
