/**
 * Who sees what became of a redriven message tells it here: the ingest when its envelope passes again, the route of the
 * consumers' sync when they report. Telling never waits and never fails; news of jobs that are over is forgotten.
 */
export type RedriveWitness = {
  /** `redrive`: as it stands in the envelope. It failed again: is retried, or `isDead`. */
  failed(redrive: string, isDead: boolean): void;
  succeeded(redrive: string): void;
};
