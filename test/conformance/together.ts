/**
 * Something that happens once, when everybody who takes part has arrived or left: the broker is killed once for all
 * clients, not once for each. Whoever fails before must leave, or the others would wait for ever.
 */
export class TogetherOnce {
  readonly #act: () => Promise<void>;
  #awaited: number;
  #arrived = 0;
  #happen!: (outcome: Promise<void>) => void;
  readonly #happened: Promise<void>;

  constructor(participants: number, act: () => Promise<void>) {
    this.#awaited = participants;
    this.#act = act;
    this.#happened = new Promise((resolve) => {
      this.#happen = resolve;
    });
  }

  arrive(): Promise<void> {
    this.#arrived++;
    this.#look();
    return this.#happened;
  }

  /** For a participant that will not arrive. */
  leave(): void {
    this.#awaited--;
    this.#look();
  }

  #look(): void {
    if (this.#arrived > 0 && this.#arrived === this.#awaited) this.#happen(this.#act());
  }
}
