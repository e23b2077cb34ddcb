import { expect, it } from "vitest";
import { SimulatedTime } from "../../broker/delivery/testing/simulated-time.ts";
import { createLocalSession, type LocalMessaging } from "./local-session.ts";

it("whoever gives up a receive leaves no poll behind that would take messages for nobody", async () => {
  const time = new SimulatedTime();
  const signals: AbortSignal[] = [];
  const messaging = {
    receive: (_request, _caller, signal) => {
      signals.push(signal);
      return new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    },
  } as Partial<LocalMessaging> as LocalMessaging;
  const session = createLocalSession(messaging, { timers: time });
  const receive = (signal: AbortSignal) =>
    session.serverStream({ method: "", request: Buffer.alloc(0), timeoutMs: 1_000, signal, onData: () => {} });
  const late = receive(new AbortController().signal);
  await time.pass(1_000);
  expect(await late).toMatchObject({ code: 4 });
  expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
  const left = new AbortController();
  const leaving = receive(left.signal);
  left.abort();
  expect(await leaving).toMatchObject({ code: 1 });
  const open = receive(new AbortController().signal);
  session.close();
  expect(await open).toMatchObject({ code: 1 });
  expect(signals.map(({ aborted }) => aborted)).toEqual([true, true, true]);
  expect(time.pending).toBe(0);
});
