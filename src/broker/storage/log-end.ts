import { code } from "../../protocol/messaging-service.ts";
import type { Log } from "../../runtime/log.ts";
import { BrokerError } from "../broker-error.ts";
import type { Files, OpenFile } from "../files/files.port.ts";
import { frameHeaderBytes } from "./frame.ts";
import { walkSegment } from "./segment-walk.ts";

/**
 * Where a segmented log ends after the last process, however that ended.
 *
 * Every record that is whole stays. Bytes behind the last whole one are cut off: they belong to a write that nobody was
 * told had succeeded. Bytes before it that cannot be read stay as a hole: either the disk has damaged them, or a write
 * was torn in the middle; in both cases what lies behind may have been acknowledged. Only the last segment is looked
 * at, because the one before is on the disk entirely before the next is made.
 */
export type LogEnd = {
  /** Numbers of the segments that there are, in order. */
  readonly segments: number[];
  /** The one to go on writing; none when that is the next, which is not made yet. */
  readonly active: { readonly number: number; readonly file: OpenFile } | undefined;
  readonly endPosition: number;
};

type Place = { readonly folder: string; readonly segmentBytes: number };

export const segmentPath = ({ folder, segmentBytes }: Place, number: number): string =>
  `${folder}/${String(number * segmentBytes).padStart(20, "0")}.log`;

export const findLogEnd = async (
  options: Place & { readonly files: Files; readonly log: Log; readonly knownPosition?: number },
): Promise<LogEnd> => {
  const { files, folder, segmentBytes, log, knownPosition = 0 } = options;
  await files.makeFolder(folder);
  const segments = listSegments(files, options);
  const last = segments.at(-1);
  if (last === undefined) return { segments, active: undefined, endPosition: 0 };
  // The last process may have made the segment and not come further.
  await files.syncFolder(folder);
  const start = last * segmentBytes;
  const file = files.open(segmentPath(options, last), "create")!;
  const known = knownPosition - start;
  const from = known > 0 && known <= file.sizeBytes ? known : 0;
  let end = from;
  for (const found of walkSegment(file, start, from, file.sizeBytes)) {
    if (found.kind === "record") end = found.position - start + frameHeaderBytes + found.record.length;
    if (found.kind !== "sealed") continue;
    await writeAgain(file, from, file.sizeBytes);
    file.close();
    return { segments, active: undefined, endPosition: start + segmentBytes };
  }
  if (file.sizeBytes > end) {
    log.warn({ folder, position: start + end, bytes: file.sizeBytes - end }, "cut off an unfinished write");
    await file.truncate(end);
  }
  await writeAgain(file, from, end);
  return { segments, active: { number: last, file }, endPosition: start + end };
};

const listSegments = (files: Files, { folder, segmentBytes }: Place): number[] => {
  const names = files.list(folder).filter((name) => /^\d{20}\.log$/.test(name));
  const segments = names.map((name) => Number(name.slice(0, 20)) / segmentBytes);
  if (segments.every(Number.isInteger)) return segments;
  throw new BrokerError(
    code.internalServerError,
    `${folder} was written with segments of another size than ${segmentBytes} bytes: use the size it was made with`,
  );
};

const writeBytesMax = 4 * 1024 * 1024;

/**
 * What the last process wrote without a sync must not vanish any more once it was read. And a sync that failed may have
 * left bytes that can be read, that the system takes for written and that are not on the disk: only written once more
 * they get there.
 */
const writeAgain = async (file: OpenFile, from: number, to: number): Promise<void> => {
  for (let at = from; at < to; at += writeBytesMax) {
    const bytes = Buffer.allocUnsafeSlow(Math.min(writeBytesMax, to - at));
    file.read(bytes, at);
    await file.write(bytes, at);
  }
  await file.sync();
};
