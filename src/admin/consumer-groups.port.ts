import type { ConsumerGroupReply } from "../wire/http.ts";

/** Consumer groups that retry by us, at the broker. */
export interface ConsumerGroups {
  /**
   * Sees to it that the group and its retry topic exist. Throws `group_not_ready` with what an operator must do when
   * they do not and cannot be created from here.
   */
  prepare(group: string, options: { readonly ordered: boolean }): Promise<ConsumerGroupReply>;
}
