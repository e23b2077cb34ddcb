import type { Clock } from "../../runtime/clock.ts";
import type { Broker } from "../broker.port.ts";

/**
 * Push consumers do not say how long they need ("auto_renew"): their messages stay invisible for as long as the
 * client lives, as the real proxy does it. Renewing makes a new handle each time while the client keeps the one it was
 * given, so here is which stands for which.
 */
type Held = {
  readonly clientId: string;
  readonly group: string;
  readonly topic: string;
  /** The one that the broker knows. */
  current: string;
  renewAtMs: number;
  readonly endMs: number;
  renewing: Promise<void> | undefined;
};

export const autoInvisibleMs = 60_000;
const renewEveryMs = 20_000;
/** The proxy's own end (ProxyConfig): a consumer that takes longer has forgotten its message. */
const heldMsMax = 3 * 3_600_000;
/** Push clients cache about a thousand each. What is beyond comes again after a minute, which is only a nuisance. */
const heldMax = 100_000;

export class HandleRenewal {
  readonly #broker: Broker;
  readonly #clock: Clock;
  readonly #held = new Map<string, Held>();

  constructor(broker: Broker, clock: Clock) {
    this.#broker = broker;
    this.#clock = clock;
  }

  hold(clientId: string, group: string, topic: string, handle: string): void {
    if (this.#held.size >= heldMax) return;
    const nowMs = this.#clock.monotonicMs();
    const endMs = nowMs + heldMsMax;
    const renewAtMs = nowMs + renewEveryMs;
    this.#held.set(handle, { clientId, group, topic, current: handle, renewAtMs, endMs, renewing: undefined });
  }

  /** The handles that the broker knows now for those that a client has; they are not renewed any more. */
  async release(handles: readonly string[]): Promise<readonly string[]> {
    if (this.#held.size === 0) return handles;
    const held = handles.map((handle) => this.#held.get(handle));
    for (const handle of handles) this.#held.delete(handle);
    await Promise.all(held.map((one) => one?.renewing));
    return handles.map((handle, i) => held[i]?.current ?? handle);
  }

  async releaseOne(handle: string): Promise<string> {
    const [current = handle] = await this.release([handle]);
    return current;
  }

  /** Renews what is due and belongs to somebody who is alive; lets go of the rest. */
  async renewDue(isAlive: (clientId: string) => boolean): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    const renewals: Promise<void>[] = [];
    for (const [handle, held] of this.#held) {
      if (nowMs < held.renewAtMs) continue;
      if (nowMs >= held.endMs || !isAlive(held.clientId)) this.#held.delete(handle);
      else if (held.renewing === undefined) renewals.push(this.#renew(handle, held, nowMs));
    }
    await Promise.all(renewals);
  }

  #renew(handle: string, held: Held, nowMs: number): Promise<void> {
    held.renewing = this.#broker.changeInvisible(held.group, held.topic, held.current, autoInvisibleMs).then(
      (current) => {
        held.current = current;
        held.renewAtMs = nowMs + renewEveryMs;
        held.renewing = undefined;
      },
      () => {
        // It is somebody else's by now; so does the client learn with its acknowledgement.
        this.#held.delete(handle);
        held.renewing = undefined;
      },
    );
    return held.renewing;
  }
}
