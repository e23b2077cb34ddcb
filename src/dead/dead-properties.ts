import { redriveProperty } from "../message/message.ts";

/** Names that a message carries for this room; users cannot send them, everything with `ESC_` is ours. */
export const retryProperty = {
  /** The consumer's envelope (retry/envelope-codec.ts). */
  envelope: "ESC_RETRY",
  /** Of a message without an envelope: `token replays`, left by the job that brought it back. */
  redrive: redriveProperty,
} as const;
