import type { Recipe } from "./recipe.ts";
import { r1 } from "./recipes/r1-server-killed.ts";
import { r4 } from "./recipes/r4-rolling-stop.ts";
import { r8 } from "./recipes/r8-redis-killed.ts";

/** All bad days, in the order in which they are run. */
export const recipes: readonly Recipe[] = [r1, r4, r8];
