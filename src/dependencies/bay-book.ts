import type { DocumentStore, StoredDocument } from "../documents/document-store.port.ts";
import { bayCount, placeInBay } from "../message/bay.ts";
import { groupTail } from "../message/id.ts";
import type { EpochMs } from "../message/time.ts";
import type { Parking } from "./parking.port.ts";

/**
 * Which bay belongs to which dependency: one document of kind `bay` for each bay in use. A key's bay is the one that
 * its hash names, or one of the next where that is another's. So every process finds it without asking anybody, and
 * two that give out bays at the same time meet at the same document.
 *
 * Bays are never taken back: 65,536 keys may ever be parked for before two share one. Those that share are let out
 * together, which is early for one of them; it is parked again then, and nothing is lost.
 */
const kind = "bay";
/** Tried from a key's own on; so many taken neighbours mean that nearly all bays are. */
const looksMax = 16;

export class BayBook implements Parking {
  readonly #documents: DocumentStore;
  readonly #bayByKey = new Map<string, number>();
  readonly #keyByBay = new Map<number, string>();
  readonly #looking = new Map<string, Promise<number>>();

  constructor(documents: DocumentStore) {
    this.#documents = documents;
  }

  async placeFor(key: string, nowMs: EpochMs): Promise<EpochMs> {
    return placeInBay(this.#bayByKey.get(key) ?? (await this.bayOf(key)), nowMs);
  }

  /** The key's bay; it gets one if it has none. */
  async bayOf(key: string): Promise<number> {
    const known = this.#bayByKey.get(key);
    if (known !== undefined) return known;
    // Many messages are parked for one key at the same time.
    const looking = this.#looking.get(key) ?? this.#find(key).finally(() => this.#looking.delete(key));
    this.#looking.set(key, looking);
    return looking;
  }

  /** The key's bay, if it has one. */
  async findBay(key: string): Promise<number | undefined> {
    const known = this.#bayByKey.get(key);
    if (known !== undefined) return known;
    for (let look = 0; look < looksMax; look++) {
      const bay = (firstBay(key) + look) % bayCount;
      const holder = await this.keyOf(bay);
      if (holder === undefined) return undefined;
      if (holder === key) return bay;
    }
    return undefined;
  }

  /** Undefined for a bay that nobody has. */
  async keyOf(bay: number): Promise<string | undefined> {
    const known = this.#keyByBay.get(bay);
    if (known !== undefined) return known;
    const document = await this.#documents.read(kind, nameOf(bay));
    if (document === undefined) return undefined;
    const key = keyIn(document);
    this.#remember(bay, key);
    return key;
  }

  async #find(key: string): Promise<number> {
    const own = firstBay(key);
    for (let look = 0; look < looksMax; look++) {
      const bay = (own + look) % bayCount;
      const holder = (await this.keyOf(bay)) ?? (await this.#take(bay, key));
      if (holder !== key) continue;
      this.#bayByKey.set(key, bay);
      return bay;
    }
    this.#bayByKey.set(key, own);
    return own;
  }

  /** Answers whose it is afterwards. */
  async #take(bay: number, key: string): Promise<string> {
    const written = await this.#documents.write(kind, nameOf(bay), JSON.stringify({ key }), 0);
    const holder = written.outcome === "conflict" && written.current !== undefined ? keyIn(written.current) : key;
    this.#remember(bay, holder);
    return holder;
  }

  #remember(bay: number, key: string): void {
    this.#keyByBay.set(bay, key);
  }
}

/** The bay that a key has unless another key has it. */
export const firstBay = (key: string): number => groupTail("bay", key) % bayCount;

const nameOf = (bay: number): string => String(bay).padStart(5, "0");

const keyIn = ({ body }: StoredDocument): string => (JSON.parse(body) as { key: string }).key;
