import type { Recipe } from "./recipe.ts";
import { e1, e2, e3 } from "./recipes/e1-embedded-killed.ts";
import { e4, e5, e6, e10 } from "./recipes/e4-embedded-disk.ts";
import { e7, e8, e8Back } from "./recipes/e7-embedded-clients.ts";
import { e9 } from "./recipes/e9-embedded-bits.ts";
import { r1 } from "./recipes/r1-server-killed.ts";
import { r2 } from "./recipes/r2-killed-at-a-point.ts";
import { r3 } from "./recipes/r3-all-servers-killed.ts";
import { r4 } from "./recipes/r4-rolling-stop.ts";
import { r5, r6 } from "./recipes/r5-server-paused.ts";
import { r8 } from "./recipes/r8-redis-killed.ts";
import { r9, r9Control } from "./recipes/r9-slow-disk.ts";
import { r12, r12Control } from "./recipes/r12-failover.ts";
import { r15, r20 } from "./recipes/r15-redis-disturbed.ts";
import { r16, r17, r19 } from "./recipes/r16-network.ts";
import { r21, r22 } from "./recipes/r21-redis-full.ts";
import { r23 } from "./recipes/r23-wrong-settings.ts";
import { r24, r25 } from "./recipes/r24-clock-jumps.ts";
import { r28Kill, r28NameServer, r28Pause } from "./recipes/r28-broker.ts";
import { r31 } from "./recipes/r31-topics-and-limits.ts";
import { r34 } from "./recipes/r34-burst.ts";
import { r36 } from "./recipes/r36-cancel-races.ts";

/** All bad days, in the order in which they are run. */
export const recipes: readonly Recipe[] = [
  r1,
  ...r2,
  r3,
  r4,
  r5,
  r6,
  r8,
  r9,
  r9Control,
  r12,
  r12Control,
  r15,
  r16,
  r17,
  r19,
  r20,
  r21,
  r22,
  r23,
  r24,
  r25,
  r28Kill,
  r28Pause,
  r28NameServer,
  r31,
  r34,
  r36,
  e1,
  e2,
  e3,
  e4,
  e5,
  e6,
  e7,
  e8,
  e8Back,
  e9,
  e10,
];
