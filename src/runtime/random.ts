/** Where chance comes from; seeded in tests. */
export interface Random {
  /** Uniform in [0, 1). */
  float(): number;
  /** Fills and returns `target`. */
  bytes<T extends Uint8Array>(target: T): T;
}
