/** Java's `String.hashCode`: what RocketMQ's consume queues hold of a tag, and what spreads message groups over queues. */
export const javaHash = (text: string): number => {
  let hash = 0;
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0;
  return hash;
};
