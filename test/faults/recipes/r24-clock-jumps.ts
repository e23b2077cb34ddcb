import { setTimeout as pause } from "node:timers/promises";
import { FakeClock } from "../fake-clock.ts";
import { eventually, type Lab } from "../lab.ts";
import type { Recipe, RecipeOutcome } from "../recipe.ts";
import { standardDay } from "../standard-day.ts";

const hourSeconds = 3_600;

/** One of two servers has its wall clock set while it runs, and put right again after a while. */
const jump = async (lab: Lab, offsetSeconds: number): Promise<RecipeOutcome> => {
  const clock = new FakeClock(lab.folder, "a");
  const said: string[] = [];
  const outcome = await standardDay(lab, {
    servers: { a: clock.environment, b: {} },
    // Messages for later than the run, which a clock that is an hour ahead would send at once; they are taken back below.
    load: { delayMs: [0, 8_000] },
    bornIsTrue: false,
    async strike() {
      const server = lab.servers[0]!;
      const far = await Promise.all(
        Array.from({ length: 50 }, (_, i) =>
          lab.http.call(server.port, "POST", "/v1/messages", {
            topic: lab.topics.normal,
            body: "far",
            deliverAt: Date.now() + 600_000 + i * 1_000,
          }),
        ),
      );
      const ids = far.map((result) => (result.end === "answer" ? (result.body as { id: string }).id : undefined));
      if (ids.includes(undefined)) said.push("a message for in ten minutes was not accepted");
      lab.faultBegins(`server a's clock jumps by ${offsetSeconds} s`);
      clock.set(offsetSeconds);
      const noticed = await eventually(5_000, async () =>
        ((await server.health())?.problems ?? []).some(({ code }) => code === "clock_not_trusted"),
      );
      if (!noticed) said.push("the jump was not noticed within 5 s");
      await pause(4_000);
      // Strangers to the ledger: had any been sent, the witness would count it.
      for (const id of ids) await lab.http.call(lab.servers[1]!.port, "DELETE", `/v1/messages/${id}`);
      clock.set(0);
      const trusted = await eventually(10_000, async () => (await server.health())?.status === "ok");
      if (!trusted) said.push("the clock is right again, but the server does not become ready");
      lab.faultEnds("server a's clock is right again");
    },
  });
  return { ...outcome, failures: [...outcome.failures, ...said] };
};

export const r24: Recipe = {
  name: "R24",
  title: "one server's wall clock jumps an hour ahead while it runs",
  expects: "nothing early, nothing lost, not one second copy; it says so, and works again when the clock is put right",
  run: (lab) => jump(lab, hourSeconds),
};

export const r25: Recipe = {
  name: "R25",
  title: "one server's wall clock jumps an hour back while it runs",
  expects: "nothing early, nothing lost, not one second copy; it says so, and works again when the clock is put right",
  run: (lab) => jump(lab, -hourSeconds),
};
