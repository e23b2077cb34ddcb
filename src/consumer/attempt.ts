import type { RetryEnvelope } from "../retry/envelope.ts";
import type { RetryPolicy } from "../retry/policy.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Timer, Timers } from "../runtime/timers.ts";
import { type ConsumedMessage, createContext, type HandlerContext, type Verdict } from "./handler-context.ts";

/**
 * One attempt: verification where the last outcome is not known, then the handler, each under its time limit. It
 * always answers, also for a handler that never does: such a one is left behind, and `left` says when it has ended.
 */
export type Handler<T> = (message: ConsumedMessage<T>, context: HandlerContext<T>) => unknown;
export type Verifier<T> = (
  message: ConsumedMessage<T>,
  context: HandlerContext<T>,
) => VerifyAnswer | Promise<VerifyAnswer>;
/** Did the last attempt take effect? */
export type VerifyAnswer = "sent" | "not_sent" | "unknown";

export type AttemptResult =
  | { readonly kind: "done" }
  | { readonly kind: "said"; readonly verdict: Verdict }
  | { readonly kind: "threw"; readonly error: unknown }
  /** Whether the last attempt took effect is still not known. */
  | { readonly kind: "unverified"; readonly error: unknown }
  | { readonly kind: "timed_out"; readonly left: Promise<void> | undefined }
  /** The consumer stopped; what the handler did until then nobody knows, when it is left behind. */
  | { readonly kind: "stopped"; readonly left: Promise<void> | undefined };

export type AttemptOptions<T> = {
  readonly message: ConsumedMessage<T>;
  readonly envelope: RetryEnvelope;
  readonly policy: RetryPolicy;
  readonly handler: Handler<T>;
  readonly verify: Verifier<T> | undefined;
  readonly timeoutMs: number;
  /** Aborted when a stop can wait no longer. */
  readonly stop: AbortSignal;
  readonly clock: Clock;
  readonly timers: Timers;
};

/** Between the signal and being left behind. */
const lastWordMs = 1_000;

export const runAttempt = <T>(options: AttemptOptions<T>): Promise<AttemptResult> =>
  new Promise((resolve) => {
    const { message, envelope, policy, handler, verify, timeoutMs, stop, clock, timers } = options;
    const controller = new AbortController();
    const { context, said } = createContext(message, envelope, policy, controller.signal, clock);
    let ending: "timed_out" | "stopped" | undefined;
    let timer: Timer;
    let settled = false;

    const settle = (result: AttemptResult): void => {
      if (settled) return;
      settled = true;
      timer.cancel();
      stop.removeEventListener("abort", onStop);
      resolve(result);
    };
    const end = (as: "timed_out" | "stopped", reason: string): void => {
      if (ending !== undefined || settled) return;
      ending = as;
      timer.cancel();
      timer = timers.after(lastWordMs, () => settle({ kind: as, left: work }));
      controller.abort(abortReason(as, reason));
    };
    const onStop = (): void => end("stopped", "the consumer stops");

    const attempt = async (): Promise<AttemptResult> => {
      if (envelope.mustVerify === true && verify !== undefined) {
        try {
          const answer = await verify(message, context);
          if (answer === "sent") return { kind: "done" };
          if (answer !== "not_sent")
            return { kind: "unverified", error: `verify answered ${String(answer).slice(0, 20)}` };
        } catch (error) {
          return { kind: "unverified", error };
        }
      }
      await handler(message, context);
      const verdict = said();
      return verdict === undefined ? { kind: "done" } : { kind: "said", verdict };
    };
    timer = timers.after(timeoutMs, () => end("timed_out", `the handler took longer than ${timeoutMs} ms`));
    stop.addEventListener("abort", onStop, { once: true });
    const work: Promise<void> = attempt().then(
      (result) => {
        // One that came to its end in spite of the signal has ended like any other.
        settle(ending !== undefined && result.kind === "unverified" ? { kind: ending, left: undefined } : result);
      },
      (error: unknown) => {
        const verdict = said();
        if (verdict !== undefined) settle({ kind: "said", verdict });
        else settle(ending === undefined ? { kind: "threw", error } : { kind: ending, left: undefined });
      },
    );
    if (stop.aborted) onStop();
  });

const abortReason = (as: "timed_out" | "stopped", message: string): Error => {
  const error = new Error(message);
  error.name = as === "timed_out" ? "TimeoutError" : "AbortError";
  return error;
};
