import type { Command } from "commander";
import { toStoredMessage } from "../../sdk/message-input.ts";
import type { DeadGroupReply, DeadGroupsReply, DiscardReply, RedriveRequest } from "../../wire/dead.ts";
import { addFilterFlags, type FilterFlags, filterOf, selectionOf, whoOf } from "../dead-flags.ts";
import {
  viewAudit,
  viewDeadGroups,
  viewDeadList,
  viewDryRun,
  viewLooked,
  viewRedrive,
  viewRetry,
} from "../dead-view.ts";
import { decimalNumber, property, timeOrText, wholeNumber } from "../flag-values.ts";
import { viewDetails } from "../message-view.ts";
import type { Output } from "../output.ts";
import { withSession } from "../session.ts";
import { counted } from "../wording.ts";

type PageFlags = FilterFlags & { readonly limit?: number; readonly cursor?: string };
type ChangeFlags = FilterFlags & {
  readonly all?: boolean;
  readonly reason?: string;
  readonly by?: string;
  readonly dryRun?: boolean;
};
type RedriveFlags = ChangeFlags & {
  readonly rate?: number;
  readonly ramp?: string | number;
  readonly canary?: number;
  readonly canaryWait?: string | number;
  readonly stopAbove?: number;
  readonly stopMin?: number;
  readonly replaysMax?: number;
  readonly outcomeWait?: string | number;
  readonly toTopic?: string;
  readonly property?: Record<string, string>;
  readonly body?: string;
  readonly allowEdit?: boolean;
};

/** Of groups, requests one after the other; then it says that there is more. */
const groupRequestsMax = 20;
const discardRequestsMax = 10_000;

/** The dead: looked at, removed, brought back. */
export const addDead = (program: Command, output: Output): void => {
  const dead = program
    .command("dead")
    .summary("look at dead messages, remove them, or bring them back")
    .description(
      "Messages that cannot be delivered, or that their consumer gave up. They are kept until somebody decides.",
    );
  addFilterFlags(dead.command("list"))
    .summary("list dead messages")
    .description("Lists dead messages that fit, oldest first within a shard.")
    .option("--limit <n>", "how many at most", wholeNumber(1, 1_000), 20)
    .option("--cursor <text>", "go on where the last list ended")
    .addHelpText("after", "\nExample:\n  escapement dead list --group billing --since 2h")
    .action(async (flags: PageFlags, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const { limit, cursor } = flags;
        const query = { ...filterOf(flags, output.nowMs()), ...(cursor === undefined ? {} : { cursor }) };
        const { ids: _none, ...asked } = query;
        const page = await client.dead.list({ ...asked, limit: limit! });
        if (json) output.printJson(page);
        else {
          if (page.items.length > 0) output.print(viewDeadList(page.items, output.style, output.nowMs()).join("\n"));
          output.tell(viewLooked(`${page.items.length} found`, page.scanned, page.complete, page.cursor));
        }
      });
    });
  addFilterFlags(dead.command("groups"))
    .summary("count dead messages by what killed them")
    .description("Counts dead messages by topic, group, code and fingerprint, the largest first.")
    .option("--cursor <text>", "go on where the last count ended")
    .addHelpText("after", "\nExample:\n  escapement dead groups --since 1d")
    .action(async (flags: PageFlags, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const { ids: _none, ...query } = filterOf(flags, output.nowMs());
        let all: DeadGroupsReply | undefined;
        for (let i = 0; i < groupRequestsMax && all?.complete !== true; i++) {
          const cursor = all?.cursor ?? flags.cursor;
          all = joined(all, await client.dead.groups({ ...query, ...(cursor === undefined ? {} : { cursor }) }));
        }
        const { groups, untold, scanned, complete, cursor } = all!;
        if (json) output.printJson(all);
        else {
          if (groups.length > 0) output.print(viewDeadGroups(groups, output.style, output.nowMs()).join("\n"));
          if (untold > 0) output.print(`and ${counted(untold, "message")} of more groups`);
          output.tell(viewLooked(counted(groups.length, "group"), scanned, complete, cursor));
        }
      });
    });
  dead
    .command("show")
    .summary("show a dead message, where it came from and how it failed")
    .argument("<id>", "its id")
    .option("--body", "also its body")
    .addHelpText("after", "\nExample:\n  escapement dead show 01a3185c-8a00-7c11-9d2e-5b7f0c3a91e4 --body")
    .action(async (id: string, flags: { readonly body?: boolean }, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const details = await client.dead.get(id, flags.body === true ? { body: true } : {});
        if (json) output.printJson(details);
        else {
          const lines = viewDetails(toStoredMessage(details), output.nowMs());
          output.print([...lines, ...viewRetry(details, output.style, output.nowMs())].join("\n"));
        }
      });
    });
  addChangeFlags(dead.command("discard"))
    .summary("remove dead messages for good")
    .description("Removes dead messages for good; nothing brings them back. Say why: it stands in the audit.")
    .addHelpText(
      "after",
      `
Examples:
  escapement dead discard --topic old-orders --reason "the topic is gone" --dry-run
  escapement dead discard 01a3185c-8a00-7c11-9d2e-5b7f0c3a91e4 --reason "test data"`,
    )
    .action(async (ids: string[], flags: ChangeFlags, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        // What dies from now on was not meant.
        const nowMs = output.nowMs();
        const filter = { until: nowMs, ...selectionOf(ids, flags, nowMs) };
        const total: DiscardReply = { matched: 0, discarded: 0, scanned: 0, complete: false };
        let cursor: string | undefined;
        for (let i = 0; i < discardRequestsMax && !total.complete; i++) {
          const piece = await client.dead.discard({
            filter,
            ...changeOf(flags),
            ...(cursor === undefined ? {} : { cursor }),
          });
          total.matched += piece.matched;
          total.discarded += piece.discarded;
          total.scanned += piece.scanned;
          total.complete = piece.complete;
          cursor = piece.cursor;
          output.progress(() => `${counted(total.matched, "message")} of ${total.scanned} looked at`);
        }
        output.clearProgress();
        if (json) output.printJson(total);
        else if (flags.dryRun === true) output.print(`Would remove ${counted(total.matched, "message")}.`);
        else output.print(`Removed ${counted(total.discarded, "message")}.`);
      });
    });
  addChangeFlags(dead.command("redrive"))
    .summary("bring dead messages back")
    .description(
      "Begins a redrive: what fits and is dead now is sent again, a canary first, then with a ramp up to the rate. It stops itself when too many fail. Watch it with: escapement redrives watch",
    )
    .option("--rate <n>", "messages a second (default: 100)", decimalNumber)
    .option("--ramp <time>", "how long the way to the full rate takes (default: 10s)", timeOrText)
    .option("--canary <n>", "so many go first and are waited for; 0 for none (default: 10)", wholeNumber(0, 1_000))
    .option("--canary-wait <time>", "how long they are waited for (default: 1m)", timeOrText)
    .option("--stop-above <percent>", "stop when more than this fails (default: 10)", decimalNumber)
    .option("--stop-min <n>", "but not before so many outcomes are known (default: 20)", wholeNumber(1, 1_000))
    .option("--replays-max <n>", "brought back so often before, it stays dead (default: 3)", wholeNumber(1, 100))
    .option("--outcome-wait <time>", "how long outcomes are gathered at the end (default: 10m)", timeOrText)
    .option("--to-topic <name>", "send to this topic instead, as new messages")
    .option("--property <name=value>", "give them these properties instead of their own; may be repeated", property)
    .option("--body <text>", "give them this body instead of their own")
    .option("--allow-edit", "needed with any of these three")
    .addHelpText(
      "after",
      `
Examples:
  escapement dead redrive --group billing --fingerprint a1b2c3d4 --dry-run
  escapement dead redrive --group billing --fingerprint a1b2c3d4 --rate 50 --reason "bank is back"`,
    )
    .action(async (ids: string[], flags: RedriveFlags, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const filter = selectionOf(ids, flags, output.nowMs());
        const reply = await client.dead.redrive({ filter, ...changeOf(flags), ...planOf(flags) });
        if (json) output.printJson(reply);
        else if ("dryRun" in reply) output.print(viewDryRun(reply, output.style, output.nowMs()).join("\n"));
        else {
          output.print(viewRedrive(reply, output.style, output.nowMs()).join("\n"));
          output.tell(`watch it with: escapement redrives watch ${reply.id}`);
        }
      });
    });
  dead
    .command("audit")
    .summary("show who did what to the dead")
    .option("--limit <n>", "how many at most", wholeNumber(1, 1_000), 20)
    .option("--cursor <text>", "go on where the last list ended")
    .addHelpText("after", "\nExample:\n  escapement dead audit --limit 50")
    .action(async (flags: { readonly limit: number; readonly cursor?: string }, command: Command) => {
      await withSession(command, output, async ({ client, json }) => {
        const page = await client.dead.audit(flags);
        if (json) output.printJson(page);
        else {
          output.print(viewAudit(page.items, output.style).join("\n"));
          if (page.cursor !== undefined) output.tell(`there is more: --cursor '${page.cursor}'`);
        }
      });
    });
};

const addChangeFlags = (command: Command): Command =>
  addFilterFlags(command.argument("[ids...]", "these messages, by id"))
    .option("--all", "all of the dead")
    .option("--reason <text>", "why; needed unless --dry-run")
    .option("--by <name>", "who (default: your user name)")
    .option("--dry-run", "only say what would happen");

const changeOf = (flags: ChangeFlags) => ({
  by: whoOf(flags),
  ...(flags.reason === undefined ? {} : { reason: flags.reason }),
  ...(flags.dryRun === true ? { dryRun: true } : {}),
});

const planOf = (flags: RedriveFlags): Partial<RedriveRequest> => {
  const { rate, ramp, canary, canaryWait, stopAbove, stopMin, replaysMax, outcomeWait, allowEdit } = flags;
  const edit = { topic: flags.toTopic, properties: flags.property, body: flags.body };
  const isEdited = Object.values(edit).some((value) => value !== undefined);
  return given({
    rate,
    ramp,
    canary,
    canaryWait,
    stopAbove,
    stopMin,
    replaysMax,
    outcomeWait,
    allowEdit,
    edit: isEdited ? given(edit) : undefined,
  });
};

type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> };
const given = <T extends object>(fields: T): Given<T> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Given<T>;

/** Counts of pieces that follow each other, as one. */
const joined = (before: DeadGroupsReply | undefined, piece: DeadGroupsReply): DeadGroupsReply => {
  if (before === undefined) return piece;
  const keyOf = ({ topic, group, code, fingerprint }: DeadGroupReply) =>
    JSON.stringify([topic, group, code, fingerprint]);
  const groups = new Map(before.groups.map((group) => [keyOf(group), group]));
  for (const group of piece.groups) {
    const known = groups.get(keyOf(group));
    const newest = known === undefined || group.lastAt >= known.lastAt ? group : known;
    const firstAt = known === undefined || group.firstAt < known.firstAt ? group.firstAt : known.firstAt;
    groups.set(keyOf(group), { ...newest, firstAt, count: group.count + (known?.count ?? 0) });
  }
  return {
    ...piece,
    groups: [...groups.values()].sort((a, b) => b.count - a.count),
    untold: before.untold + piece.untold,
    scanned: before.scanned + piece.scanned,
  };
};
