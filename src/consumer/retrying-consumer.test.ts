import { describe, expect, it } from "vitest";
import { durationMs } from "../message/time.ts";
import { PermanentError, UnknownOutcomeError } from "../retry/classified-errors.ts";
import { encodeEnvelope } from "../retry/envelope-codec.ts";
import type { ConsumedMessage, HandlerContext } from "./handler-context.ts";
import { ConsumerStage, fixedSecond, grouped } from "./testing/consumer-stage.ts";

// The consumer with everything around it in memory, on simulated time. What the parts are by themselves is tested
// beside them; here stands what a user is promised.

const never = () => new Promise<void>(() => {});
const failing = (times: number) => {
  let left = times;
  return () => {
    if (left-- > 0) throw new Error("down");
  };
};

describe("a message that succeeds", () => {
  it("is acknowledged, once, together with others", async () => {
    const stage = new ConsumerStage();
    const seen: string[] = [];
    for (let i = 0; i < 20; i++) stage.broker.send("orders", `${i}`, { tag: "t", keys: ["k"] });
    const consumer = stage.start({
      handler: ({ body, topic, tag, keys }) => void seen.push(`${topic}/${tag}/${keys[0]}/${body}`),
    });
    await stage.time.pass(100);
    expect(seen.sort()).toEqual(Array.from({ length: 20 }, (_, i) => `orders/t/k/${i}`).sort());
    expect(stage.broker.left("orders")).toEqual([]);
    expect(consumer.stats()).toMatchObject({ received: 20, succeeded: 20, failed: 0, held: 0, running: 0 });
  });

  it("no more are held than can soon be worked on, and no more run than allowed", async () => {
    const stage = new ConsumerStage();
    let running = 0;
    let most = 0;
    for (let i = 0; i < 100; i++) stage.broker.send("orders", `${i}`);
    stage.start({
      settings: { concurrency: 3 },
      handler: async () => {
        most = Math.max(most, ++running);
        await new Promise<void>((resolve) => stage.time.after(100, resolve));
        running--;
      },
    });
    await stage.time.pass(10_000);
    expect(most).toBe(3);
    expect(stage.broker.outMost).toBeLessThanOrEqual(3 * 2 + 2);
    expect(stage.broker.left("orders")).toEqual([]);
  });
});

describe("a message that fails", () => {
  it("is handed over before it is acknowledged, and comes again with what is known of it", async () => {
    const stage = new ConsumerStage();
    const contexts: HandlerContext<Buffer>[] = [];
    stage.broker.send("orders", "a", { tag: "t", keys: ["k1"], properties: new Map([["color", "red"]]) });
    const fail = failing(2);
    const startMs = stage.time.nowMs();
    stage.start({
      handler: (_, context) => {
        contexts.push(context);
        fail();
      },
    });
    await stage.time.pass(10_000);
    expect(contexts.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    expect(
      contexts.map(({ message }) => [message.id, message.topic, message.tag, message.properties.get("color")]),
    ).toEqual(Array(3).fill([contexts[0]!.message.id, "orders", "t", "red"]));
    expect(contexts[2]!.firstFailedAt?.getTime()).toBe(startMs);
    expect(contexts[2]!.message.properties.has("ESC_RETRY")).toBe(false);
    expect(
      stage.ingest.all.map(({ atMs, envelope }) => [atMs - startMs > 900, envelope.hop, envelope.attempt]),
    ).toEqual([
      [true, 1, 1],
      [true, 2, 2],
    ]);
    expect(stage.broker.left("orders")).toEqual([]);
    expect(stage.broker.left("ESC_RETRY_g")).toEqual([]);
  });

  it("RT-04 a new process goes on with the attempt and the first failure of the old one", async () => {
    const stage = new ConsumerStage();
    const attempts: number[] = [];
    const handler = (_: unknown, { attempt }: HandlerContext<Buffer>) => {
      attempts.push(attempt);
      throw new Error("down");
    };
    stage.broker.send("orders", "a");
    const first = stage.start({ handler });
    await stage.time.pass(1_500);
    stage.kill(first);
    stage.start({ handler });
    await stage.time.pass(40_000);
    expect(attempts).toEqual([1, 2, 3, 4, 5]);
    expect(stage.ingest.dead).toMatchObject([{ said: "attempts_exhausted", envelope: { attempt: 5, crashes: 0 } }]);
    const [first_, last] = [stage.ingest.all[0]!, stage.ingest.dead[0]!];
    expect(last.envelope.firstFailedAtMs).toBe(first_.envelope.firstFailedAtMs);
  });

  it("TX-26: tells the same id for all copies of a message, also after retries: what an inbox goes by", async () => {
    const stage = new ConsumerStage();
    const escId = "0189a3f2-7c11-7d2e-8b7f-0c3a91e4aaaa";
    const seen: unknown[] = [];
    const handler = ({ id, properties }: ConsumedMessage, { attempt }: HandlerContext<Buffer>) => {
      seen.push([id, properties.get("ESC_ID"), attempt]);
      if (attempt === 1) throw new Error("down");
    };
    for (const copy of ["a", "a"]) stage.broker.send("orders", copy, { properties: new Map([["ESC_ID", escId]]) });
    stage.start({ handler });
    await stage.time.pass(10_000);
    expect(seen).toEqual([
      [escId, escId, 1],
      [escId, escId, 1],
      [escId, escId, 2],
      [escId, escId, 2],
    ]);
  });

  it("tells no id of its way through the delay server for what came without one", async () => {
    const stage = new ConsumerStage();
    const seen: unknown[] = [];
    stage.broker.send("orders", "a");
    stage.start({
      handler: ({ id, properties }: ConsumedMessage, { attempt }: HandlerContext<Buffer>) => {
        seen.push([id, properties.has("ESC_ID")]);
        if (attempt === 1) throw new Error("down");
      },
    });
    await stage.time.pass(10_000);
    expect(seen).toEqual([
      [seen[0] && (seen[0] as string[])[0], false],
      [(seen[0] as string[])[0], false],
    ]);
  });

  it("goes where its policy says: at once among the dead when it is permanent", async () => {
    const stage = new ConsumerStage();
    stage.broker.send("orders", "a");
    stage.start({
      handler: () => {
        throw new PermanentError("no such account", { code: "no_account" });
      },
    });
    await stage.time.pass(100);
    expect(stage.ingest.dead).toMatchObject([
      { said: "permanent", envelope: { attempt: 1, history: [{ code: "no_account", text: "no such account" }] } },
    ]);
    expect(stage.broker.left("orders")).toEqual([]);
  });

  it("to the dead topic of its policy, but not in a circle", async () => {
    const stage = new ConsumerStage();
    stage.broker.send("orders", "a");
    stage.start({
      extra: { dead: { topic: "orders" } },
      handler: () => {
        throw new PermanentError("no");
      },
    });
    await stage.time.pass(60_000);
    expect(stage.ingest.all.map(({ to, said, envelope }) => [to, said, envelope.redirects])).toEqual([
      ["retry", "", 1],
      ["retry", "", 2],
      ["retry", "", 3],
      ["dead", "redirect_circle", 3],
    ]);
  });
});

describe("what a handler may say", () => {
  const saying = async (say: (context: HandlerContext<Buffer>) => unknown, policy: object = fixedSecond) => {
    const stage = new ConsumerStage();
    stage.broker.send("orders", "a");
    let isFirst = true;
    const attempts: number[] = [];
    const handler = (_: unknown, context: HandlerContext<Buffer>) => {
      attempts.push(context.attempt);
      if (!isFirst) return;
      isFirst = false;
      return say(context);
    };
    stage.start({ handler, policy });
    const startMs = stage.time.nowMs();
    await stage.time.pass(120_000);
    return { stage, attempts, startMs, all: stage.ingest.all };
  };

  it("snooze: later, and it was no attempt", async () => {
    const { attempts, all, startMs } = await saying((context) => context.snooze("1m"));
    expect(attempts).toEqual([1, 1]);
    expect(all).toMatchObject([{ to: "retry", atMs: startMs + 60_000, envelope: { attempt: 0, history: [] } }]);
  });

  it("retryAt: then, and it was one; the limits of the policy hold", async () => {
    const { attempts, all, startMs } = await saying((context) => context.retryAt("30s", "busy"));
    expect(attempts).toEqual([1, 2]);
    expect(all).toMatchObject([
      { atMs: startMs + 30_000, envelope: { history: [{ code: "retry_at", text: "busy" }] } },
    ]);
    const limited = await saying((context) => context.retryAt("30s"), { limits: { maxAttempts: 1 } });
    expect(limited.stage.ingest.dead).toMatchObject([{ said: "attempts_exhausted" }]);
  });

  it("park: until its key is opened, and it was no attempt", async () => {
    const { stage, attempts, all } = await saying((context) => context.park("quiet-hours"));
    expect(all).toMatchObject([
      { to: "park", said: "quiet-hours", envelope: { attempt: 0, parkedFor: "quiet-hours" } },
    ]);
    expect(attempts).toEqual([1]);
    stage.ingest.release(all[0]!);
    await stage.time.pass(1_000);
    expect(attempts).toEqual([1, 1]);
  });

  it("dead: kept, with the reason; also when it was said and forgotten, or followed by a throw", async () => {
    for (const say of [
      (context: HandlerContext<Buffer>) => context.dead("wrong order"),
      (context: HandlerContext<Buffer>) => void context.dead("wrong order"),
      (context: HandlerContext<Buffer>) => {
        context.dead("wrong order");
        throw new Error("stop here");
      },
    ]) {
      const { all, attempts } = await saying(say);
      expect(all).toMatchObject([{ to: "dead", said: "handler", envelope: { history: [{ text: "wrong order" }] } }]);
      expect(attempts).toEqual([1]);
    }
  });

  it("nonsense is an error like any other, and nothing is lost by it", async () => {
    for (const say of [
      (context: HandlerContext<Buffer>) => context.park("with space"),
      (context: HandlerContext<Buffer>) => context.snooze(-5),
      (context: HandlerContext<Buffer>) => context.retryAt(Number.NaN),
      (context: HandlerContext<Buffer>) => context.snooze("soon"),
    ]) {
      const { all, attempts } = await saying(say);
      expect(attempts).toEqual([1, 2]);
      expect(all).toMatchObject([{ to: "retry", envelope: { attempt: 1 } }]);
    }
  });

  it("deadline: by the age that is left, and by the instant of the policy", async () => {
    const left: (number | undefined)[] = [];
    const stage = new ConsumerStage();
    stage.broker.send("orders", "a");
    stage.start({
      policy: { backoff: { kind: "fixed", delay: "10s", jitter: "none" }, limits: { maxAge: "1m" } },
      handler: (_, { deadline }) => {
        left.push(deadline.at === undefined ? undefined : deadline.leftMs());
        expect(deadline.has("2s")).toBe(deadline.leftMs() >= 2_000);
        throw new Error("down");
      },
    });
    await stage.time.pass(100_000);
    expect(left[0]).toBeUndefined();
    expect(left[1]).toBeCloseTo(50_000, -3);
    expect(left.at(-1)).toBeLessThan(11_000);
    expect(stage.ingest.dead).toMatchObject([{ said: "age_exhausted" }]);
  });
});

describe("crashes", () => {
  it("RT-05 killed between hand-over and acknowledgement: a duplicate at most, and one retry", async () => {
    const stage = new ConsumerStage();
    const attempts: number[] = [];
    stage.broker.send("orders", "a");
    stage.broker.acks = "fail";
    const handler = (_: unknown, { attempt }: HandlerContext<Buffer>) => {
      attempts.push(attempt);
      if (attempts.length === 1) throw new Error("down");
    };
    const first = stage.start({ handler });
    await stage.time.pass(500);
    expect(stage.ingest.all).toHaveLength(1);
    stage.kill(first);
    stage.broker.acks = "work";
    stage.start({ handler });
    await stage.time.pass(120_000);
    // The second process hands the same hop over once more, which is the same message.
    expect(stage.ingest.all).toHaveLength(1);
    expect(attempts).toEqual([1, 2]);
    expect(stage.broker.left("orders")).toEqual([]);
  });

  it("RT-08 a message that kills its process three times is quarantined, and was counted before each run", async () => {
    const stage = new ConsumerStage();
    stage.broker.send("orders", "poison");
    stage.broker.send("orders", "healthy");
    const attempts: number[] = [];
    let consumer = stage.start({ handler: () => {} });
    stage.kill(consumer);
    const crashing = () => {
      const mine = stage.start({
        handler: ({ body }, { attempt }) => {
          if (body.toString() !== "poison") return;
          attempts.push(attempt);
          // What the broker or ingest knows of it now is all that is left of this attempt.
          stage.kill(mine);
          return never();
        },
      });
      return mine;
    };
    for (let life = 0; life < 8; life++) {
      consumer = crashing();
      await stage.time.pass(70_000);
      stage.kill(consumer);
    }
    expect(attempts).toEqual([1, 2, 3]);
    expect(stage.ingest.dead).toMatchObject([
      { said: "crash_loop", envelope: { attempt: 3, crashes: 3, history: [{ class: "crash" }, {}, {}] } },
    ]);
    expect(stage.broker.acked).toContain("healthy");
    expect([...stage.broker.left("orders"), ...stage.broker.left("ESC_RETRY_g")]).toEqual([]);
  });

  it.each([0, 100])(
    "RT-08 those in hand beside one that kills after %i ms share its deaths, and not its end",
    async (ms) => {
      const stage = new ConsumerStage();
      const bodies = ["poison", "a", "b", "c", "d", "e"];
      for (const body of bodies) stage.broker.send("orders", body);
      const done: string[] = [];
      const lastOnes: string[][] = [];
      for (let life = 0; life < 6; life++) {
        let isDead = false;
        const lastChances = new Set<string>();
        const mine = stage.start({
          settings: { concurrency: 8, invisibleMs: 10_000 },
          handler: async ({ body }, { attempt }) => {
            const name = body.toString();
            if (attempt === 3) lastChances.add(name);
            lastOnes.push([...lastChances]);
            await new Promise<void>((resolve) => stage.time.after(name === "poison" ? ms : 1_000, resolve));
            if (isDead) return never();
            if (name === "poison") {
              isDead = true;
              stage.kill(mine);
              return never();
            }
            lastChances.delete(name);
            done.push(name);
          },
        });
        await stage.time.pass(60_000);
        stage.kill(mine);
      }
      // Twice where it dies between a handler's end and the acknowledgement.
      expect([...new Set(done)].sort()).toEqual(["a", "b", "c", "d", "e"]);
      expect(stage.ingest.dead.map(({ said, envelope }) => [said, envelope.crashes])).toEqual([["crash_loop", 3]]);
      expect(Math.max(...lastOnes.map((names) => names.length))).toBe(1);
      expect([...stage.broker.left("orders"), ...stage.broker.left("ESC_RETRY_g")]).toEqual([]);
    },
  );

  it("RT-08 a last chance does not begin before the others that came with it are safe elsewhere", async () => {
    const stage = new ConsumerStage();
    for (const body of ["poison", "a", "b", "c"]) {
      const envelope = encodeEnvelope({
        group: "g",
        originTopic: "orders",
        originId: body,
        originBornAtMs: stage.time.nowMs(),
        hop: 2,
        attempt: 2,
        crashes: 2,
        parkedMs: durationMs(0),
        policy: "test",
        history: [],
        replays: 0,
        redirects: 0,
      });
      stage.broker.send("ESC_RETRY_g", body, { properties: new Map([["ESC_RETRY", envelope!]]) });
    }
    for (let life = 0; life < 3; life++) {
      const mine = stage.start({
        settings: { concurrency: 64 }, // So that one poll brings all.
        handler: ({ body }) => {
          if (body.toString() === "poison") stage.kill(mine);
        },
      });
      await stage.time.pass(60_000);
      stage.kill(mine);
    }
    expect(stage.ingest.dead.map(({ said, envelope }) => [said, envelope.originId])).toEqual([
      ["crash_loop", "poison"],
    ]);
    expect(stage.broker.left("ESC_RETRY_g")).toEqual([]);
  });

  it("RT-26 two processes of one group, one stopping: each message is done once, and nobody counts a crash", async () => {
    const stage = new ConsumerStage();
    const done: string[] = [];
    const handler = async ({ body }: { body: Buffer }) => {
      await new Promise<void>((resolve) => stage.time.after(300, resolve));
      done.push(body.toString());
    };
    for (let i = 0; i < 60; i++) stage.broker.send("orders", `${i}`);
    const old = stage.start({ handler });
    await stage.time.pass(1_000);
    const young = stage.start({ handler });
    await stage.time.pass(400);
    let isStopped = false;
    void old.stop().then(() => {
      isStopped = true;
    });
    await stage.time.pass(60_000);
    expect(isStopped).toBe(true);
    expect(done.sort()).toEqual(Array.from({ length: 60 }, (_, i) => `${i}`).sort());
    expect(old.stats().crashes + young.stats().crashes).toBe(0);
    expect(old.stats().returned).toBeGreaterThan(0);
    expect(stage.ingest.all.every(({ envelope }) => envelope.attempt === 0)).toBe(true);
  });
});

describe("a hand-over that fails", () => {
  it("RT-06 RT-07 leaves the message with the broker for its wait, loses nothing, and is told once", async () => {
    const stage = new ConsumerStage();
    stage.ingest.mode = "fail";
    const attempts = new Map<string, number[]>();
    for (let i = 0; i < 30; i++) stage.broker.send("orders", `${i}`);
    const handler = ({ body }: { body: Buffer }, { attempt }: HandlerContext<Buffer>) => {
      attempts.set(body.toString(), [...(attempts.get(body.toString()) ?? []), attempt]);
      if (attempt < 3) throw new Error("down");
    };
    const consumer = stage.start({ handler });
    await stage.time.pass(60_000);
    expect([...attempts.values()]).toEqual(Array(30).fill([1, 2, 3]));
    expect(stage.broker.left("orders")).toEqual([]);
    expect(consumer.stats()).toMatchObject({ crashes: 0, notHandedOver: 60, succeeded: 30 });
    expect(stage.warnings().filter((text) => text.includes("cannot be handed over"))).toHaveLength(1);
    stage.ingest.mode = "work";
    stage.broker.send("orders", "later");
    await stage.time.pass(10_000);
    expect(stage.ingest.all).toHaveLength(2);
    expect(stage.logged.filter(({ text }) => text.includes("can be handed over again"))).toHaveLength(1);
  });

  it("whose answer was lost is one message all the same", async () => {
    const stage = new ConsumerStage();
    stage.ingest.mode = "lost";
    stage.broker.send("orders", "a");
    let runs = 0;
    stage.start({
      handler: () => {
        if (++runs === 1) throw new Error("down");
      },
    });
    await stage.time.pass(60_000);
    expect(stage.ingest.all).toHaveLength(1);
    // It came back both ways: that is the duplicate that at-least-once allows.
    expect(runs).toBeLessThanOrEqual(3);
    expect(stage.broker.left("orders")).toEqual([]);
  });

  it("RT-23 the dead cannot be stored: the source is not acknowledged and the handler not asked again", async () => {
    const stage = new ConsumerStage();
    stage.ingest.refusesDead = true;
    let runs = 0;
    stage.broker.send("orders", "a");
    stage.start({
      handler: () => {
        runs++;
        throw new PermanentError("never");
      },
    });
    await stage.time.pass(300_000);
    expect(stage.broker.left("orders")).toEqual(["a"]);
    expect(runs).toBe(1);
    stage.ingest.refusesDead = false;
    await stage.time.pass(15_000);
    expect(stage.broker.left("orders")).toEqual([]);
    expect(stage.ingest.dead).toMatchObject([{ said: "permanent", envelope: { attempt: 1 } }]);
  });

  it("a message that killed a process is not run again before that is written down", async () => {
    const stage = new ConsumerStage();
    stage.broker.send("orders", "poison");
    const first = stage.start({ handler: never });
    await stage.time.pass(100);
    stage.kill(first);
    stage.ingest.mode = "fail";
    let runs = 0;
    stage.start({ handler: () => void runs++ });
    await stage.time.pass(300_000);
    expect(runs).toBe(0);
    stage.ingest.mode = "work";
    await stage.time.pass(30_000);
    expect(runs).toBe(1);
    expect(stage.ingest.all[0]).toMatchObject({ envelope: { crashes: 1, attempt: 1 } });
  });
});

describe("doubt after a hand-over that failed", () => {
  it("ends when handing over has worked for a minute: what kills processes is counted again", async () => {
    const stage = new ConsumerStage();
    stage.ingest.mode = "fail";
    stage.broker.send("orders", "ordinary");
    let isDown = true;
    const consumer = stage.start({
      settings: { concurrency: 2 },
      handler: () => {
        if (isDown) throw new Error("down");
      },
    });
    await stage.time.pass(500);
    stage.ingest.mode = "work";
    isDown = false;
    stage.broker.send("orders", "ordinary");
    await stage.time.pass(500);
    const suspicious = () => {
      stage.broker.send("orders", "suspicious", { brokerMessageId: `s${stage.time.nowMs()}` });
      stage.broker.sawBefore("orders");
    };
    // Handing over fails and then works: within the minute it may have been given back by a peer in the same need.
    isDown = true;
    stage.broker.send("orders", "ends the trouble");
    await stage.time.pass(500);
    isDown = false;
    suspicious();
    await stage.time.pass(5_000);
    expect(consumer.stats().crashes).toBe(1);
    expect(stage.ingest.all.filter(({ envelope }) => envelope.crashes > 0)).toEqual([]);
    await stage.time.pass(61_000);
    suspicious();
    await stage.time.pass(5_000);
    expect(stage.ingest.all.filter(({ envelope }) => envelope.crashes > 0)).toHaveLength(1);
  });

  it("a long wait that could not be handed over is shortened, so that the doubt can be short", async () => {
    const stage = new ConsumerStage();
    stage.ingest.mode = "fail";
    stage.broker.send("orders", "a");
    let runs = 0;
    stage.start({
      policy: { backoff: { kind: "fixed", delay: "30m", jitter: "none" } },
      handler: () => {
        if (++runs === 1) throw new Error("down");
      },
    });
    await stage.time.pass(5_000);
    stage.ingest.mode = "work";
    await stage.time.pass(60_000);
    expect(stage.ingest.all).toMatchObject([{ to: "retry", envelope: { attempt: 1, crashes: 0 } }]);
    expect(runs).toBe(1);
    await stage.time.pass(1_800_000);
    expect(runs).toBe(2);
  });
});

describe("time in hand", () => {
  it("a message that comes again while its acknowledgement is under way is acknowledged once more", async () => {
    const stage = new ConsumerStage();
    let runs = 0;
    stage.broker.send("orders", "a");
    const source = stage.broker.source("orders");
    let isFirst = true;
    const slow = {
      ...source,
      changeInvisible: async () => ({ outcome: "failed" }) as const,
      ack: async (taken: Parameters<typeof source.ack>[0]) => {
        const before = taken.map((one) => ({ ...one }));
        if (isFirst) {
          isFirst = false;
          await new Promise<void>((resolve) => stage.time.after(40_000, resolve));
        }
        return source.ack(before);
      },
    };
    const consumer = stage.start({
      sources: [{ source: slow, ofRetryTopic: false, polls: 1 }],
      handler: () => void runs++,
    });
    await stage.time.pass(41_000);
    expect(runs).toBe(1);
    expect(stage.broker.left("orders")).toEqual([]);
    expect(consumer.stats()).toMatchObject({ cameAgain: 1, notAcknowledged: 0, held: 0 });
  });

  it("RT-10 a handler that outlives the invisibility is renewed and runs once", async () => {
    const stage = new ConsumerStage();
    let runs = 0;
    stage.broker.send("orders", "a");
    stage.start({
      handler: async () => {
        runs++;
        await new Promise<void>((resolve) => stage.time.after(200_000, resolve));
      },
    });
    await stage.time.pass(260_000);
    expect(runs).toBe(1);
    expect(stage.broker.renewals).toBeGreaterThan(5);
    expect(stage.broker.left("orders")).toEqual([]);
  });

  it("RT-11 an acknowledgement that fails after success: it comes again and is not run again", async () => {
    const stage = new ConsumerStage();
    let runs = 0;
    stage.broker.acks = "fail";
    stage.broker.send("orders", "a");
    const consumer = stage.start({ handler: () => void runs++ });
    await stage.time.pass(45_000);
    stage.broker.acks = "work";
    await stage.time.pass(60_000);
    expect(runs).toBe(1);
    expect(stage.broker.left("orders")).toEqual([]);
    expect(consumer.stats().cameAgain).toBeGreaterThan(0);
  });

  it("a receipt that went stale in our hands: what comes again belongs to the handler that is still running", async () => {
    const stage = new ConsumerStage();
    let runs = 0;
    stage.broker.send("orders", "a");
    const source = stage.broker.source("orders");
    let renews = false;
    const frozen = {
      ...source,
      changeInvisible: async (...given: Parameters<typeof source.changeInvisible>) =>
        renews ? source.changeInvisible(...given) : ({ outcome: "failed" } as const),
    };
    stage.start({
      sources: [{ source: frozen, ofRetryTopic: false, polls: 1 }],
      handler: async () => {
        runs++;
        await new Promise<void>((resolve) => stage.time.after(70_000, resolve));
      },
    });
    await stage.time.pass(40_000);
    renews = true;
    await stage.time.pass(100_000);
    expect(runs).toBe(1);
    expect(stage.broker.left("orders")).toEqual([]);
  });

  it("a handler that never returns: its signal is aborted, its message goes on as unknown, its place is free again", async () => {
    const stage = new ConsumerStage();
    const reasons: string[] = [];
    stage.broker.send("orders", "hangs");
    const consumer = stage.start({
      settings: { concurrency: 1, handlerTimeoutMs: 60_000 },
      handler: ({ body }, { signal }) => {
        if (body.toString() !== "hangs") return;
        signal.addEventListener("abort", () => reasons.push((signal.reason as Error).name));
        return never();
      },
    });
    await stage.time.pass(61_500);
    stage.broker.send("orders", "other");
    await stage.time.pass(500);
    expect(stage.broker.acked).toContain("other");
    expect(reasons).toEqual(["TimeoutError"]);
    expect(stage.ingest.all[0]).toMatchObject({
      envelope: { history: [{ class: "unknown", code: "handler_timeout" }] },
    });
    expect(consumer.stats().leftBehind).toBe(1);
    // The second one that hangs takes the only place there is, so that they do not become more and more.
    await stage.time.pass(70_000);
    stage.broker.send("orders", "third");
    await stage.time.pass(5_000);
    expect(consumer.stats().leftBehind).toBe(2);
    expect(stage.broker.acked).not.toContain("third");
    expect(stage.warnings().some((text) => text.includes("handlers do not end"))).toBe(true);
  });
});

describe("stopping", () => {
  it("waits for handlers, then aborts them; who gives up comes back without an attempt, who does not as unknown", async () => {
    const stage = new ConsumerStage();
    for (const body of ["quick", "polite", "deaf"]) stage.broker.send("orders", body);
    const consumer = stage.start({
      handler: async ({ body }, { signal }) => {
        if (body.toString() === "quick") await new Promise<void>((resolve) => stage.time.after(3_000, resolve));
        if (body.toString() === "polite") {
          await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
        }
        if (body.toString() === "deaf") await never();
      },
    });
    await stage.time.pass(100);
    let isStopped = false;
    void consumer.stop().then(() => {
      isStopped = true;
    });
    await stage.time.pass(8_000);
    expect(isStopped).toBe(true);
    expect(stage.broker.acked.sort()).toEqual(["deaf", "polite", "quick"]);
    const of = (body: string) => stage.ingest.all.find((one) => one.body.toString() === body);
    expect(of("quick")).toBeUndefined();
    expect(of("polite")).toMatchObject({ to: "retry", envelope: { attempt: 0, history: [] } });
    expect(of("deaf")).toMatchObject({ envelope: { attempt: 1, history: [{ class: "unknown", code: "stopped" }] } });
    expect(stage.broker.openPolls).toBe(0);
    expect(consumer.stats()).toMatchObject({ held: 0, running: 0 });
    stage.broker.send("orders", "late");
    await stage.time.pass(10_000);
    expect(consumer.stats().received).toBe(3);
  });
});

describe("RT-17 an unknown outcome", () => {
  const verifyRule = { ...fixedSecond, rules: [{ when: { class: "unknown" }, action: "verify" }] };
  const timesOut = (runs: number[]) => () => {
    runs.push(1);
    if (runs.length === 1) throw new UnknownOutcomeError("no answer");
  };
  const run = async (answers: ("sent" | "not_sent" | "unknown" | Error)[]) => {
    const stage = new ConsumerStage();
    const runs: number[] = [];
    const asked: number[] = [];
    stage.broker.send("orders", "a");
    stage.start({
      policy: verifyRule,
      handler: timesOut(runs),
      verify: (_, { attempt }) => {
        asked.push(attempt);
        const answer = answers.shift()!;
        if (answer instanceof Error) throw answer;
        return answer;
      },
    });
    await stage.time.pass(60_000);
    expect([...stage.broker.left("orders"), ...stage.broker.left("ESC_RETRY_g")]).toEqual([]);
    return { stage, runs: runs.length, asked };
  };

  it("that took effect is done; the handler does not run again", async () => {
    expect(await run(["sent"])).toMatchObject({ runs: 1, asked: [2] });
  });

  it("that did not is tried again", async () => {
    expect(await run(["not_sent"])).toMatchObject({ runs: 2, asked: [2] });
  });

  it("that stays unknown is asked about again, and no handler runs before there is an answer", async () => {
    const { stage, runs, asked } = await run(["unknown", new Error("status page down"), "not_sent"]);
    expect([runs, asked]).toEqual([2, [2, 3, 4]]);
    expect(stage.ingest.all.map(({ envelope }) => envelope.mustVerify)).toEqual([true, true, true]);
  });

  it("that nobody can find out ends within the limits", async () => {
    const { stage, runs } = await run(Array(9).fill("unknown"));
    expect(runs).toBe(1);
    expect(stage.ingest.dead).toMatchObject([{ said: "attempts_exhausted" }]);
  });

  it("without a verifier is dead, because to send again might be wrong", async () => {
    const stage = new ConsumerStage();
    const runs: number[] = [];
    stage.broker.send("orders", "a");
    stage.start({ policy: verifyRule, handler: timesOut(runs) });
    await stage.time.pass(60_000);
    expect(runs).toHaveLength(1);
    expect(stage.ingest.dead).toMatchObject([{ said: "cannot_verify" }]);
  });
});

describe("RT-19 a body that cannot be read", () => {
  it("is dead at once, with why", async () => {
    const stage = new ConsumerStage();
    let runs = 0;
    stage.broker.send("orders", "{not json");
    stage.broker.send("orders", '{"n":7}');
    stage.start({
      decode: (body) => JSON.parse(body.toString()),
      handler: ({ value }) => {
        runs += (value as unknown as { n: number }).n;
      },
    });
    await stage.time.pass(100);
    expect(runs).toBe(7);
    expect(stage.ingest.dead).toMatchObject([
      { said: "decode_failed", envelope: { attempt: 0, history: [{ class: "permanent", code: "SyntaxError" }] } },
    ]);
  });

  it("a decoder that does not come to an end counts as an attempt, and gives its place back", async () => {
    const stage = new ConsumerStage();
    for (const body of ["hangs", "fine"]) stage.broker.send("orders", body);
    const seen: string[] = [];
    stage.start({
      settings: { concurrency: 1, handlerTimeoutMs: 60_000 },
      decode: async (body) => (body.toString() === "hangs" ? ((await never()) as never) : body),
      handler: ({ body }) => void seen.push(body.toString()),
    });
    await stage.time.pass(60_500);
    expect(seen).toEqual(["fine"]);
    expect(stage.ingest.all).toMatchObject([
      { to: "retry", envelope: { attempt: 1, history: [{ class: "transient", code: "decode_timeout" }] } },
    ]);
  });

  it("a retry without a readable envelope of this group is dead with the reason", async () => {
    const stage = new ConsumerStage();
    let runs = 0;
    const other = JSON.stringify({ v: 1, g: "other", t: "t", i: "i", b: 1, h: 1, a: 1, p: "p@1" });
    for (const text of [undefined, "nonsense", other]) {
      stage.broker.send("ESC_RETRY_g", "x", { properties: new Map(text === undefined ? [] : [["ESC_RETRY", text]]) });
    }
    stage.start({ handler: () => void runs++ });
    await stage.time.pass(100);
    expect(runs).toBe(0);
    expect(stage.ingest.dead.map(({ said, envelope }) => [said, envelope.history[0]!.text])).toEqual([
      ["broken_envelope", "it came by the retry topic without a retry envelope"],
      ["broken_envelope", "the retry envelope is not JSON"],
      ["broken_envelope", "its envelope belongs to the group other"],
    ]);
  });
});

describe("RT-18 order", () => {
  const inOrder = async (order: "skip-key" | "block-key" | "block-queue", failBody: string, times: number) => {
    const stage = new ConsumerStage();
    stage.broker.ordered = true;
    const seen: string[] = [];
    let left = times;
    for (const body of ["a1", "a2", "b1", "a3", "b2"]) stage.broker.send("orders", body, grouped(body[0]!));
    const consumer = stage.start({
      order,
      handler: ({ body }) => {
        seen.push(body.toString());
        if (body.toString() === failBody && left-- > 0) throw new Error("down");
      },
    });
    await stage.time.pass(60_000);
    expect(stage.broker.left("orders")).toEqual([]);
    return { stage, seen, consumer };
  };

  it("skip-key: the followers of a failed one go on, and it comes later", async () => {
    const { seen } = await inOrder("skip-key", "a1", 1);
    expect(seen.filter((body) => body.startsWith("a"))).toEqual(["a1", "a2", "a3", "a1"]);
  });

  it("block-key: its followers wait for it, other keys go on", async () => {
    const { seen, stage } = await inOrder("block-key", "a1", 2);
    expect(seen.filter((body) => body.startsWith("a"))).toEqual(["a1", "a1", "a1", "a2", "a3"]);
    expect(seen.indexOf("b2")).toBeLessThan(seen.indexOf("a2"));
    expect(stage.ingest.all).toEqual([]);
  });

  it("block-key: dead, it is kept, and the followers go on in order", async () => {
    const { seen, stage } = await inOrder("block-key", "a1", 99);
    expect(seen.filter((body) => body.startsWith("a"))).toEqual([...Array(5).fill("a1"), "a2", "a3"]);
    expect(stage.ingest.dead).toMatchObject([{ said: "attempts_exhausted", envelope: { attempt: 5 } }]);
  });

  it("block-queue: everything in its queue waits for it", async () => {
    const { seen } = await inOrder("block-queue", "a1", 2);
    expect(seen.slice(0, 3)).toEqual(["a1", "a1", "a1"]);
    expect(seen.filter((body) => body.startsWith("a")).slice(3)).toEqual(["a2", "a3"]);
    expect(seen.filter((body) => body.startsWith("b"))).toEqual(["b1", "b2"]);
  });

  it("of one key one runs at a time, and keys run beside each other", async () => {
    const stage = new ConsumerStage();
    stage.broker.ordered = true;
    const running = new Set<string>();
    let most = 0;
    for (let i = 0; i < 30; i++) stage.broker.send("orders", `${i}`, grouped(`k${i % 3}`));
    const order: string[] = [];
    stage.start({
      order: "block-key",
      handler: async ({ body, messageGroup }) => {
        expect(running.has(messageGroup!)).toBe(false);
        running.add(messageGroup!);
        most = Math.max(most, running.size);
        await new Promise<void>((resolve) => stage.time.after(10, resolve));
        running.delete(messageGroup!);
        order.push(body.toString());
      },
    });
    await stage.time.pass(5_000);
    expect(most).toBe(3);
    for (const key of [0, 1, 2]) {
      const mine = order.map(Number).filter((n) => n % 3 === key);
      expect(mine).toEqual(mine.toSorted((a, b) => a - b));
      expect(mine).toHaveLength(10);
    }
  });
});

describe("RT-18 a head that kills its process", () => {
  const crashing = async (settings: { kills: (body: string) => boolean; lives: number; isAway?: boolean }) => {
    const stage = new ConsumerStage();
    if (settings.isAway === true) stage.answer = undefined;
    for (const body of ["a1", "a2", "a3"]) stage.broker.send("orders", body, grouped("a"));
    const seen: string[] = [];
    let consumer = stage.start({ order: "block-key", handler: () => {} });
    stage.kill(consumer);
    for (let life = 0; life < settings.lives; life++) {
      let isDead = false;
      consumer = stage.start({
        order: "block-key",
        policy: { ...fixedSecond, limits: { maxAttempts: 50, maxCrashes: 3 } },
        handler: ({ body }, { attempt }) => {
          if (isDead) return never();
          seen.push(`${body}/${attempt}`);
          if (!settings.kills(body.toString())) return undefined;
          isDead = true;
          stage.kill(consumer);
          return never();
        },
      });
      await stage.time.pass(31_000);
      if (!isDead) await stage.time.pass(31_000);
      stage.kill(consumer);
    }
    return { stage, seen };
  };

  it("is a crash loop at maxCrashes that are known, and its followers, held all the while, are as new", async () => {
    const { stage, seen } = await crashing({ kills: (body) => body === "a1", lives: 6 });
    // The first time nobody wrote down that it began.
    expect(seen).toEqual(["a1/1", "a1/2", "a1/3", "a1/4", "a2/1", "a3/1"]);
    expect(stage.ingest.dead).toMatchObject([{ said: "crash_loop", envelope: { crashes: 3, attempt: 4 } }]);
    expect(stage.broker.left("orders")).toEqual([]);
  });

  it("while nobody can write that down, it is ended by its attempts, and nobody waits for long", async () => {
    const { stage, seen } = await crashing({ kills: (body) => body === "a1", lives: 5, isAway: true });
    expect(seen).toEqual(["a1/1", "a1/2", "a1/3", "a1/4", "a1/5"]);
    expect(stage.ingest.dead).toEqual([]);
  });

  it("orderly stops are no crashes, however many", async () => {
    const stage = new ConsumerStage();
    stage.broker.ordered = true;
    for (const body of ["a1", "a2"]) stage.broker.send("orders", body, grouped("a"));
    for (let life = 0; life < 8; life++) {
      const consumer = stage.start({
        order: "block-key",
        policy: { ...fixedSecond, limits: { maxAttempts: 50, maxCrashes: 3 } },
        handler: () => {
          throw new Error("down");
        },
      });
      await stage.time.pass(2_500);
      void consumer.stop();
      await stage.time.pass(3_000);
    }
    expect(stage.ingest.dead).toEqual([]);
    const seen: string[] = [];
    // By the broker's count the attempts of this policy are over, for the follower too, which never had one.
    stage.start({ order: "block-key", handler: ({ body }, { attempt }) => void seen.push(`${body}/${attempt}`) });
    await stage.time.pass(60_000);
    expect(seen).toEqual(["a1/5", "a2/1"]);
  });
});

describe("RT-18 a head in other hands", () => {
  it("that went stale here: its followers do not run here, and what is stale is not run at all", async () => {
    const stage = new ConsumerStage();
    stage.broker.ordered = true;
    for (const body of ["a1", "a2", "a3"]) stage.broker.send("orders", body, grouped("a"));
    // They came with their head in one poll, as a broker may bring them.
    stage.broker.ordered = false;
    const seen: string[] = [];
    const source = stage.broker.source("orders");
    const cutOff = { ...source, changeInvisible: async () => ({ outcome: "stale" }) as const };
    const old = stage.start({
      order: "block-key",
      sources: [{ source: cutOff, ofRetryTopic: false, polls: 1 }],
      handler: async (message, context) => {
        seen.push(`old ${message.body}`);
        await new Promise<void>((resolve) => stage.time.after(40_000, resolve));
        context.snooze("1s");
      },
    });
    await stage.time.pass(20_000);
    stage.broker.ordered = true;
    await stage.time.pass(19_000);
    expect(old.stats().stale).toBe(3);
    void old.stop();
    stage.start({ order: "block-key", handler: (message) => void seen.push(`new ${message.body}`) });
    await stage.time.pass(60_000);
    expect(seen.filter((one) => one.startsWith("old"))).toEqual(["old a1"]);
    expect(seen.filter((one) => one.startsWith("new"))).toEqual(["new a1", "new a2", "new a3"]);
    expect(stage.broker.left("orders")).toEqual([]);
  });
});

describe("a dependency that is down", () => {
  const dependency = () => "http:billing";
  const outage = async (stage: ConsumerStage) => {
    let isUp = false;
    let calls = 0;
    const consumer = stage.start({
      dependency,
      policy: { backoff: { kind: "fixed", delay: "1m", jitter: "none" }, limits: { maxAge: "30m" } },
      handler: async () => {
        calls++;
        await new Promise<void>((resolve) => stage.time.after(20, resolve));
        if (!isUp) throw Object.assign(new Error("down"), { status: 503 });
      },
    });
    for (let i = 0; i < 200; i++) stage.broker.send("orders", `${i}`);
    await stage.time.pass(2_000);
    const back = () => {
      isUp = true;
    };
    return { consumer, calls: () => calls, back };
  };

  it("is called until that is certain; the rest is parked without an attempt, also while the service is away", async () => {
    for (const isAway of [false, true]) {
      const stage = new ConsumerStage();
      if (isAway) stage.answer = undefined;
      const { calls, consumer } = await outage(stage);
      expect(calls()).toBeLessThan(60);
      expect(consumer.stats().parked + consumer.stats().retried).toBe(200);
      expect(stage.ingest.parked.every(({ said }) => said === "http:billing")).toBe(true);
      const uncalled = stage.ingest.parked.filter(({ envelope }) => envelope.attempt === 0);
      expect(uncalled).toHaveLength(200 - calls());
      expect(stage.broker.left("orders")).toEqual([]);
    }
  });

  it("tells the service what its calls met, and takes its word that it is open for everybody", async () => {
    const stage = new ConsumerStage();
    await outage(stage);
    const reports = stage.synced.flatMap(({ dependencies }) => dependencies);
    const failed = reports.reduce((sum, report) => sum + report.failed, 0);
    expect(failed).toBeGreaterThanOrEqual(20);
    expect(reports.every(({ key }) => key === "http:billing")).toBe(true);
    const young = new ConsumerStage();
    const view = { key: "http:billing", state: "open", callsPerSec: 0, retriesPerSec: 1, retryPercent: 20 } as const;
    young.answer = () => ({ dependencies: [view] });
    let calls = 0;
    young.broker.send("orders", "first");
    young.start({ dependency, handler: () => void calls++ });
    await young.time.pass(1_500);
    young.broker.send("orders", "second");
    await young.time.pass(500);
    expect(calls).toBe(1);
    expect(young.ingest.parked).toHaveLength(1);
  });

  it("is told at once when it is found down here, not at the next second", async () => {
    const stage = new ConsumerStage();
    const toldMs: number[] = [];
    const startMs = stage.time.nowMs();
    stage.answer = ({ dependencies }) => {
      if (dependencies.some(({ failed }) => failed > 0)) toldMs.push(stage.time.nowMs() - startMs);
      return { dependencies: [] };
    };
    await outage(stage);
    // 20 failures at four a fiftieth of a second, and a look at them each tenth.
    expect(toldMs[0]).toBeLessThan(400);
    expect(toldMs.length).toBeLessThan(4);
  });

  it("the time in parking counts neither as age nor as an attempt", async () => {
    const stage = new ConsumerStage();
    const { back, consumer } = await outage(stage);
    await stage.time.pass(3_600_000);
    back();
    let released = 0;
    for (let round = 0; round < 30; round++) {
      const parked = stage.ingest.parked;
      for (; released < parked.length; released++) stage.ingest.release(parked[released]!);
      await stage.time.pass(10_000);
    }
    expect(consumer.stats()).toMatchObject({ succeeded: 200, dead: 0, held: 0 });
  });

  it("nor does it when an attempt after it fails", async () => {
    const stage = new ConsumerStage();
    let runs = 0;
    stage.broker.send("orders", "a");
    const consumer = stage.start({
      policy: { backoff: { kind: "fixed", delay: "1s", jitter: "none" }, limits: { maxAge: "1m" } },
      handler: (_, context) => {
        if (++runs === 2) context.park("quiet-hours");
        else if (runs < 4) throw new Error("down");
      },
    });
    await stage.time.pass(7_200_000);
    stage.ingest.release(stage.ingest.parked[0]!);
    await stage.time.pass(10_000);
    expect(consumer.stats()).toMatchObject({ succeeded: 1, dead: 0 });
    expect(runs).toBe(4);
    const last = stage.ingest.all.at(-1)!.envelope;
    expect(last.parkedMs).toBeGreaterThan(7_190_000);
    expect([last.parkedAtMs, last.parkedFor]).toEqual([undefined, undefined]);
  });

  it("a name that is none does no harm: the message is worked on without a breaker, and that is told once", async () => {
    const stage = new ConsumerStage();
    for (let i = 0; i < 5; i++) stage.broker.send("orders", `${i}`);
    const consumer = stage.start({
      dependency: ({ body }) => {
        if (body.toString() === "3") throw new Error("no");
        return "two words";
      },
      handler: () => {},
    });
    await stage.time.pass(100);
    expect(consumer.stats().succeeded).toBe(5);
    expect(stage.warnings().filter((text) => text.includes("dependency()"))).toHaveLength(1);
  });
});

describe("bad input", () => {
  it("ten megabytes of error text, a cause that is itself, and things that are no errors", async () => {
    const circular = new Error("round");
    circular.cause = circular;
    const thrown: unknown[] = [
      "x".repeat(10_000_000),
      new Error("y".repeat(10_000_000)),
      undefined,
      null,
      circular,
      {},
      7,
    ];
    const stage = new ConsumerStage();
    for (let i = 0; i < thrown.length; i++) stage.broker.send("orders", `${i}`);
    const consumer = stage.start({
      policy: { limits: { maxAttempts: 1 } },
      handler: ({ body }) => {
        throw thrown[Number(body.toString())];
      },
    });
    await stage.time.pass(1_000);
    expect(stage.ingest.dead).toHaveLength(thrown.length);
    for (const { properties } of stage.ingest.dead)
      expect(Buffer.byteLength(properties.get("ESC_RETRY")!)).toBeLessThan(4_096);
    expect(consumer.stats()).toMatchObject({ dead: thrown.length, held: 0 });
  });

  it("a message whose own properties leave no room for an envelope stays with the broker and is not lost", async () => {
    const stage = new ConsumerStage();
    const properties = new Map([["big", "x".repeat(16_000)]]);
    stage.broker.send("orders", "full", { properties });
    stage.broker.send("orders", "nearly", { properties: new Map([["big", "x".repeat(15_500)]]) });
    const attempts: string[] = [];
    stage.start({
      handler: ({ body }, { attempt }) => {
        attempts.push(`${body} ${attempt}`);
        if (attempt < 3) throw new Error("down");
      },
    });
    await stage.time.pass(60_000);
    expect(attempts.filter((one) => one.startsWith("full"))).toEqual(["full 1", "full 2", "full 3"]);
    expect(attempts.filter((one) => one.startsWith("nearly"))).toEqual(["nearly 1", "nearly 2", "nearly 3"]);
    expect(stage.ingest.all.map(({ body }) => body.toString())).toEqual(["nearly", "nearly"]);
    expect(stage.broker.left("orders")).toEqual([]);
  });

  it("what brokers and we ourselves put on a message is not handed over as the user's", async () => {
    const stage = new ConsumerStage();
    const properties = new Map([
      ["mine", "1"],
      ["ESC_ID", "x"],
      ["ESC_DELIVER_AT", "1"],
      ["__transactionId__", "t"],
    ]);
    stage.broker.send("orders", "a", { properties });
    stage.start({
      handler: () => {
        throw new PermanentError("no");
      },
    });
    await stage.time.pass(100);
    expect([...stage.ingest.dead[0]!.properties.keys()].sort()).toEqual(["ESC_DEAD", "ESC_RETRY", "ESC_TOPIC", "mine"]);
  });
});
