/** Chance that can be repeated: the same seed gives the same load and the same instants of the faults. */
export type SeededRandom = {
  /** 0 ≤ x < 1. */
  float(): number;
  /** A whole number, both ends included. */
  between(least: number, most: number): number;
  /** True with this probability. */
  chance(probability: number): boolean;
  bytes(count: number): Buffer;
  /** A stream of its own, so that one consumer's appetite does not change another's draws. */
  fork(): SeededRandom;
};

export const seededRandom = (seed: number): SeededRandom => {
  let state = seed >>> 0;
  // A Weyl sequence, stirred by two rounds of multiply and shift: plenty for choosing loads and instants.
  const word = (): number => {
    state = (state + 0x9e3779b9) >>> 0;
    let x = state;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return (x ^ (x >>> 15)) >>> 0;
  };
  const float = (): number => word() / 2 ** 32;
  return {
    float,
    between: (least, most) => least + Math.floor(float() * (most - least + 1)),
    chance: (probability) => float() < probability,
    bytes: (count) => {
      const buffer = Buffer.allocUnsafe(count);
      for (let i = 0; i < count; i++) buffer[i] = word() & 0xff;
      return buffer;
    },
    fork: () => seededRandom(word()),
  };
};
