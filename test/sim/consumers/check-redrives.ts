import type { AfterConsumers, Violated } from "./check-consumers.ts";

/** Redrives: exactly what was selected comes back, and each death once, whoever asked for it and however often. */
export const checkRedrives = (
  { redrives, ledger, options, book }: Pick<AfterConsumers, "redrives" | "ledger" | "options" | "book">,
  violated: Violated,
): void => {
  const { jobs } = redrives;
  const { revivals } = ledger;
  if (!redrives.areOver) {
    const states = jobs.map(({ id, last }) => `${id}: ${last?.state}`).join(", ");
    violated("C11 a redrive comes to its end", states);
  }
  const seen = new Set<string>();
  for (const { id, diedAtMs, job, atMs } of revivals) {
    const death = `${id} ${diedAtMs}`;
    const name = ledger.messages.get(id)?.content?.content ?? id;
    if (seen.has(death)) {
      const text = `${name}, which died once, is brought back once more at ${(atMs / 1000).toFixed(3)} s by ${job}`;
      violated("C11 a death is undone once", text, name);
    }
    seen.add(death);
    const of = jobs.find((known) => known.id === job);
    if (of === undefined) continue;
    const code = of.deadThen.get(id);
    if (code === undefined || (of.code !== undefined && of.code !== code)) {
      violated(
        "C11 only what was selected comes back",
        `${name} is brought back by ${job}, which did not mean it`,
        name,
      );
    }
  }
  const brought = new Set(revivals.map(({ id }) => id));
  for (const { id: job, code: wanted, deadThen, askedMs, last } of jobs) {
    if (job === undefined || last?.state !== "finished") continue;
    for (const [id, code] of deadThen) {
      if (brought.has(id) || (wanted !== undefined && wanted !== code)) continue;
      const name = ledger.messages.get(id)?.content?.content ?? ledger.messages.get(id)?.buriedText ?? id;
      violated("C11 everything selected comes back", `${name} (${code}) is still dead after ${job}`, name);
    }
    const own = revivals.filter((revival) => revival.job === job).length;
    // What was not written down before a crash is counted by looking, and another redrive may have been quicker.
    const hadCrash = ledger.troubles.some(({ kind, fromMs }) => kind === "crash" && fromMs > askedMs);
    if (last.counts.sent < own || (last.counts.sent > own && !hadCrash)) {
      violated("C11 a redrive counts what it did", `${job} says ${last.counts.sent}, it brought back ${own}`);
    }
  }
  if (options.mood !== "calm") return;
  for (const message of book.sent.values()) {
    const again = Map.groupBy(
      message.entries.filter(({ envelope }) => (envelope?.replays ?? 0) > 0),
      ({ envelope }) => `${envelope!.replays}.${envelope!.hop}`,
    );
    for (const [which, copies] of again) {
      if (copies.length > 1)
        violated("C11 a death is undone once", `${message.name}: ${which} came twice`, message.name);
    }
  }
};
