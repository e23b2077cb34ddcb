import { randomFillSync } from "node:crypto";
import type { Random } from "../../runtime/random.ts";

// One call for 4 KiB of randomness costs about as much as one for 10 bytes, and every accepted message needs 10.
const pool = Buffer.alloc(4096);
let used = pool.length;

export const systemRandom: Random = {
  float: () => Math.random(),
  bytes(target) {
    if (target.length > pool.length) return randomFillSync(target);
    if (used + target.length > pool.length) {
      randomFillSync(pool);
      used = 0;
    }
    target.set(pool.subarray(used, used + target.length));
    used += target.length;
    return target;
  },
};
