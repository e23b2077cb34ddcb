import type { OpenFile } from "../files/files.port.ts";
import { frameHeaderBytes, frameLength, isRecordWhole, sealed } from "./frame.ts";

/**
 * The records of one segment, one after the other. Where something cannot be read it looks for the next whole record
 * byte by byte, so that damage costs what it hit and nothing behind it.
 */
export type Found =
  | { readonly kind: "record"; readonly position: number; readonly record: Buffer }
  /** Whole records follow, or the segment should go on to here. */
  | { readonly kind: "damage"; readonly position: number; readonly endPosition: number }
  /** The writer has left the rest of this segment empty. */
  | { readonly kind: "sealed"; readonly position: number };

/** Few calls, and small enough to stay in the processor's cache. */
const windowBytes = 256 * 1024;

/** `from` and `until` count from the start of the segment, which stands for `segmentPosition`. */
export function* walkSegment(file: OpenFile, segmentPosition: number, from: number, until: number): Generator<Found> {
  let window = Buffer.alloc(0);
  let windowAt = from;
  /** Makes bytes `at` to `at + length` part of the window; false when the segment ends before. */
  const have = (at: number, length: number): boolean => {
    if (at + length > until) return false;
    if (at >= windowAt && at + length <= windowAt + window.length) return true;
    // A new one each time: who got a record may keep it.
    window = Buffer.allocUnsafeSlow(Math.min(Math.max(length, windowBytes), until - at));
    windowAt = at;
    const read = file.read(window, at);
    if (read < window.length) window = window.subarray(0, read);
    return read >= length;
  };

  let damagedFrom: number | undefined;
  for (let at = from; have(at, frameHeaderBytes); ) {
    const position = segmentPosition + at;
    const length = frameLength(window, at - windowAt, position);
    const step = length === undefined || length === sealed ? 0 : frameHeaderBytes + length;
    const whole = step > 0 && have(at, step) && isRecordWhole(window, at - windowAt, length!);
    if (!whole && length !== sealed) {
      damagedFrom ??= position;
      // The header of a damaged record still says where the next one is.
      at += step > 0 && at + step <= until ? step : 1;
      continue;
    }
    if (damagedFrom !== undefined) yield { kind: "damage", position: damagedFrom, endPosition: position };
    damagedFrom = undefined;
    if (!whole) {
      yield { kind: "sealed", position };
      return;
    }
    const start = at - windowAt + frameHeaderBytes;
    yield { kind: "record", position, record: window.subarray(start, start + length!) };
    at += step;
  }
  const end = segmentPosition + until;
  if (damagedFrom !== undefined) yield { kind: "damage", position: damagedFrom, endPosition: end };
}
