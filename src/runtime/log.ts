import { destination, type Logger, pino, stdSerializers, stdTimeFunctions } from "pino";
import { PinoPretty as pinoPretty } from "pino-pretty";

/**
 * The log: JSON lines on stdout, or readable coloured lines on a terminal. Events are written once, with fields;
 * what happens on every tick is a metric instead. Bodies and credentials never appear: rooms do not pass them, and
 * errors are reduced here to what an operator needs (an ioredis error would carry its whole command).
 */
export type Log = Pick<Logger, "debug" | "info" | "warn" | "error" | "fatal">;

export type LogOptions = {
  readonly level: string;
  /** Readable lines instead of JSON. */
  readonly pretty: boolean;
};

/** Type, code, message and stack; nothing else that a library may have hung on the error. */
export const errorFields = (error: unknown): Record<string, unknown> => {
  if (!(error instanceof Error)) return { message: String(error) };
  const { type, message, stack } = stdSerializers.err(error);
  const code = (error as { code?: unknown }).code;
  return { type, message, ...(code === undefined ? {} : { code }), stack };
};

export const createLog = ({ level, pretty }: LogOptions): Log =>
  pino(
    { level, base: null, timestamp: stdTimeFunctions.isoTime, serializers: { err: errorFields } },
    // Synchronous: the last lines before a crash are the ones that matter, and we log events, not messages.
    pretty
      ? pinoPretty({ translateTime: "SYS:HH:MM:ss.l", sync: true, singleLine: true })
      : destination({ dest: 1, sync: true }),
  );

export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  fatal: () => {},
};
