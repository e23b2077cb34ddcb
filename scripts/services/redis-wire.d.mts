/** One command to a Redis on this machine; answers text, a number as text, or null. Rejects on an error reply. */
export declare function redisCommand(
  port: number,
  words: readonly (string | number)[],
  limitMs?: number,
): Promise<string | null>;
