import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { isEscapementError } from "../../message/errors.ts";
import { Engine, type EngineOptions } from "./engine.ts";
import type { FromEngine, ToEngine } from "./engine-link.ts";
import type { Post } from "./requests.ts";

/**
 * The thread of the file. What has arrived while a commit was at work shares the next one, up to a bound: a commit of
 * everything that an hour's burst has piled up would keep a claim waiting behind it.
 */

const port = parentPort!;
const say = (message: FromEngine, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

const open = (): Engine | undefined => {
  try {
    return Engine.open(workerData as EngineOptions);
  } catch (error) {
    if (!isEscapementError(error)) throw error;
    say({ refused: { code: error.code, message: error.message, field: error.field } });
    return undefined;
  }
};

/** Bytes of requests in one commit: some 2,500 messages of 200 bytes, about 20 ms of work. */
const commitBytesMax = 1_500_000;

const serve = (engine: Engine): void => {
  const run = (posts: Post[]): void => {
    for (const reply of engine.run(posts)) say({ reply }, [reply.parcel]);
  };
  port.on("message", (first: ToEngine) => {
    let posts: Post[] = [];
    let bytes = 0;
    for (let message: ToEngine | undefined = first; message !== undefined; message = next()) {
      if ("close" in message) {
        if (posts.length > 0) run(posts);
        engine.close();
        port.close();
        return;
      }
      posts.push(message.post);
      bytes += message.post.parcel.byteLength;
      if (bytes < commitBytesMax) continue;
      run(posts);
      posts = [];
      bytes = 0;
    }
    if (posts.length > 0) run(posts);
  });
  say({ opened: true });
};

const next = (): ToEngine | undefined => receiveMessageOnPort(port)?.message as ToEngine | undefined;

const engine = open();
if (engine === undefined) port.close();
else serve(engine);
