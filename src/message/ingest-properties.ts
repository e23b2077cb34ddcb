/**
 * Properties by which a message on the ingest topic speaks to the delay server: what its receiver reads, and what
 * consumers, outbox and half messages write.
 */
export const ingestProperty = {
  topic: "ESC_TOPIC",
  deliverAt: "ESC_DELIVER_AT",
  delay: "ESC_DELAY",
  key: "ESC_KEY",
  onConflict: "ESC_ON_CONFLICT",
  expireAfter: "ESC_EXPIRE_AFTER",
  messageGroup: "ESC_MESSAGE_GROUP",
} as const;
