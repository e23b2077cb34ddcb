import { delayStoreContract } from "../../delay/delay-store.contract.ts";
import { durationMs } from "../../message/time.ts";
import { SqliteBench } from "./testing/sqlite-bench.ts";

const sqliteSubject = async (wishes: { dedupeWindowMs?: number } = {}) => {
  const bench = new SqliteBench();
  const { dedupeWindowMs } = wishes;
  const store = await bench.open(dedupeWindowMs === undefined ? {} : { dedupeWindowMs: durationMs(dedupeWindowMs) });
  const advanceMs = async (ms: number) => {
    bench.nowMs += ms;
  };
  return { store, advanceMs, close: async () => bench[Symbol.asyncDispose]() };
};

delayStoreContract("sqlite", sqliteSubject, { modelRuns: 20, modelSteps: 50 });
