/** Where the failed messages of a consumer group come back to it, unseen by the other groups of their topic. */
export const retryTopicOf = (group: string): string => `ESC_RETRY_${group}`;
