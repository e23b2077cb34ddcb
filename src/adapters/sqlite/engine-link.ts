import { Worker } from "node:worker_threads";
import { type ErrorCode, EscapementError } from "../../message/errors.ts";
import { Engine, type EngineOptions } from "./engine.ts";
import type { Post, PostReply } from "./requests.ts";

/** The way to the engine, wherever it runs. Posts are answered in their order. */
export interface EngineLink {
  post(post: Post): void;
  /** After everything that was posted before. */
  close(): Promise<void>;
}

export type LinkEnds = {
  readonly onReply: (reply: PostReply) => void;
  /** Nothing will be answered any more. */
  readonly onBroken: (error: EscapementError) => void;
};

/** On the caller's thread: for tests and the simulation, which have to know when what happens. */
export const engineHere = (options: EngineOptions, { onReply }: LinkEnds): EngineLink => {
  const engine = Engine.open(options);
  return {
    post: (post) => {
      for (const reply of engine.run([post])) onReply(reply);
    },
    close: async () => engine.close(),
  };
};

/** On a thread of its own, so that an fsync holds up the file and nobody else. */
export const engineOnItsOwnThread = async (
  options: EngineOptions,
  { onReply, onBroken }: LinkEnds,
): Promise<EngineLink> => {
  // The same ending as this file's, which tells whether the program was compiled.
  const script = new URL(`./engine-thread.${import.meta.url.split(".").at(-1)}`, import.meta.url);
  const worker = new Worker(script, { workerData: options });
  const opened = Promise.withResolvers<void>();
  const exited = Promise.withResolvers<void>();
  worker.on("message", (message: FromEngine) => {
    if ("reply" in message) onReply(message.reply);
    else if ("refused" in message) opened.reject(thrownAgain(message.refused));
    else opened.resolve();
  });
  worker.on("error", (cause) => {
    const error = new EscapementError("internal", "the thread of the store has failed", { cause });
    opened.reject(error);
    onBroken(error);
  });
  worker.on("exit", () => {
    const error = new EscapementError("store_unavailable", "the thread of the store has ended");
    opened.reject(error);
    onBroken(error);
    exited.resolve();
  });
  await opened.promise;
  return {
    post: (post) => worker.postMessage({ post } satisfies ToEngine, [post.parcel]),
    close: () => {
      worker.postMessage({ close: true } satisfies ToEngine);
      return exited.promise;
    },
  };
};

export type ToEngine = { readonly post: Post } | { readonly close: true };

export type FromEngine =
  | { readonly reply: PostReply }
  | { readonly opened: true }
  | { readonly refused: { readonly code: ErrorCode; readonly message: string; readonly field: string | undefined } };

const thrownAgain = ({ code, message, field }: { code: ErrorCode; message: string; field: string | undefined }) =>
  new EscapementError(code, message, field === undefined ? {} : { field });
