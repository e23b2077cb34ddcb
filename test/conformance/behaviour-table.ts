import type { Behaviour } from "./behaviour.ts";
import { faults } from "./behaviours/faults.ts";
import { groups } from "./behaviours/groups.ts";
import { order } from "./behaviours/order.ts";
import { redelivery } from "./behaviours/redelivery.ts";
import { refusals } from "./behaviours/refusals.ts";
import { sending } from "./behaviours/sending.ts";
import { time } from "./behaviours/time.ts";
import { transactions } from "./behaviours/transactions.ts";

export type Theme = { readonly title: string; readonly behaviours: readonly Behaviour[] };

export const themes: readonly Theme[] = [
  { title: "Sending and receiving", behaviours: sending },
  { title: "Acknowledgement and redelivery", behaviours: redelivery },
  { title: "Groups, filters, push", behaviours: groups },
  { title: "Order", behaviours: order },
  { title: "Delay and recall", behaviours: time },
  { title: "Transactions", behaviours: transactions },
  { title: "What is refused", behaviours: refusals },
  { title: "Restart", behaviours: faults },
];

export const allBehaviours: readonly Behaviour[] = themes.flatMap(({ behaviours }) => behaviours);
