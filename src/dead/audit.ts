import type { DocumentStore } from "../documents/document-store.port.ts";
import { type EpochMs, formatInstant } from "../message/time.ts";
import type { Random } from "../runtime/random.ts";
import type { DeadAuditEntry } from "../wire/dead.ts";
import { kinds } from "./redrive-documents.ts";

/**
 * Who did what to the dead, when and why. Written before it is done, and completed after. Nobody can remove an entry; it
 * goes after a year (audit-keeping.ts).
 */
export type AuditEntry = Omit<DeadAuditEntry, "at">;

/** Begins an entry; the answer completes it, as often as there is more to say. */
export const beginAudit = async (
  documents: DocumentStore,
  random: Random,
  nowMs: EpochMs,
  entry: AuditEntry,
): Promise<(more: Partial<AuditEntry>) => Promise<void>> => {
  const full: DeadAuditEntry = { at: formatInstant(nowMs), ...entry };
  const newName = (): string => nameOf(nowMs, Buffer.from(random.bytes(new Uint8Array(4))).toString("hex"));
  let name = newName();
  // Two of one millisecond may draw the same name; neither may get lost.
  while ((await documents.write(kinds.audit, name, JSON.stringify(full), 0)).outcome !== "written") name = newName();
  let revision = 1;
  return async (more) => {
    const written = await documents.write(kinds.audit, name, JSON.stringify({ ...full, ...more }), revision);
    if (written.outcome === "written") revision = written.revision;
  };
};

/** The same at the same instant is the same entry, and stands there once, however often it is said. */
export const auditOnce = async (
  documents: DocumentStore,
  atMs: EpochMs,
  same: string,
  entry: AuditEntry,
): Promise<void> => {
  const full: DeadAuditEntry = { at: formatInstant(atMs), ...entry };
  await documents.write(kinds.audit, nameOf(atMs, same), JSON.stringify(full), 0);
};

/** Counted down, so that the newest are first. */
const nameOf = (atMs: number, rest: string): string => `${String(1e15 - atMs).padStart(16, "0")}-${rest}`;

export const auditedAtMs = (name: string): number => 1e15 - Number(name.slice(0, 16));

export const readAudit = async (
  documents: DocumentStore,
  after: string | undefined,
  limit: number,
): Promise<{ readonly items: DeadAuditEntry[]; readonly cursor?: string }> => {
  const found = await documents.list(kinds.audit, { ...(after === undefined ? {} : { after }), limit });
  const items = found.map(({ body }) => JSON.parse(body) as DeadAuditEntry);
  return found.length < limit ? { items } : { items, cursor: found.at(-1)!.name };
};
