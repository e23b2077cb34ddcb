import { expect, it } from "vitest";
import { MemoryDelayStore } from "./adapters/memory/memory-delay-store.ts";
import { MemoryDocumentStore } from "./adapters/memory/memory-document-store.ts";
import { machineClock } from "./adapters/system/system-time.ts";
import { epochMs } from "./message/time.ts";
import { PolicyBook } from "./policies/policy-book.ts";
import { silentLog } from "./runtime/log.ts";
import { defaultTenant, Service } from "./service.ts";
import { plainParts } from "./testing/plain-parts.ts";

it("RT-16 a policy that another process bound decides about failed sends here, within two seconds and without a restart", async () => {
  const documents = new MemoryDocumentStore();
  const sends: string[] = [];
  const service = new Service({
    store: new MemoryDelayStore({ clockMs: () => machineClock.wallMs(), shardCount: 1 }),
    documents,
    sink: {
      send: async (_topic, messages) => {
        sends.push(...messages.map(({ tag }) => tag ?? "-"));
        return messages.map(() => ({
          ok: false as const,
          failure: { class: "transient" as const, code: "quota", detail: "not now" },
        }));
      },
      close: async () => {},
    },
    ...plainParts("here"),
  });
  await service.start();
  const clock = { nowMs: () => epochMs(Math.floor(machineClock.wallMs())) };
  const elsewhere = new PolicyBook({ documents, clock, log: silentLog });
  await elsewhere.put("once", { policy: { limits: { maxAttempts: 1 } } });
  await elsewhere.bind({ topic: "orders", tag: "paid", policy: "once" });
  const sinceMs = machineClock.monotonicMs();
  while (service.retry.policies.policyFor("orders", "paid") === undefined) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  expect(machineClock.monotonicMs() - sinceMs).toBeLessThan(2_000);
  const ids = await Promise.all(
    [{ tag: "paid" }, {}].map(async (more) => {
      const request = { topic: "orders", body: "b", delay: 0, ...more };
      return (await service.intake.schedule(request, defaultTenant)).id;
    }),
  );
  const found = async (id: string) => service.intake.get({ id }, defaultTenant, { body: false });
  while ((await found(ids[0]!)).state !== "dead") await new Promise((resolve) => setTimeout(resolve, 5));
  expect(await found(ids[0]!)).toMatchObject({
    attempt: 1,
    reason: { code: "attempts_exhausted", detail: "attempt 1 of 1 failed: quota: not now" },
  });
  expect((await found(ids[1]!)).state).not.toBe("dead");
  expect(sends).toContain("-");
  await service.stop();
});
