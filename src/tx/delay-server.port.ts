/** The delay server, as far as a cancel needs it. */
export interface DelayServer {
  /**
   * Sees to it that no message of this key is sent, also one that is still on its way to the delay server. `too-late`:
   * it was sent or is being sent. Throws when there is no answer.
   */
  cancel(key: string, messageGroup: string | undefined): Promise<"canceled" | "too-late">;
}
