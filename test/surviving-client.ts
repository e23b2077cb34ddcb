import { Writable } from "node:stream";
import type { Producer, SimpleConsumer } from "rocketmq-client-nodejs";

/**
 * The official client, where servers are killed. It takes all listeners off its telemetry stream when it lets go of it;
 * should the connection break after that, the error has no listener and ends the whole program. And a client that was
 * shut down after its stream had failed opens a new stream every second, for ever.
 */
export const surviving = <T extends Producer | SimpleConsumer>(client: T): T => {
  const inside = client as unknown as {
    createTelemetryStream(endpoints: unknown): NodeJS.EventEmitter;
    shutdown(): Promise<void>;
  };
  const create = inside.createTelemetryStream.bind(client);
  const shutdown = inside.shutdown.bind(client);
  let isShutDown = false;
  inside.createTelemetryStream = (endpoints) => {
    if (isShutDown) return new Writable({ objectMode: true, write: (_chunk, _encoding, done) => done() });
    const stream = create(endpoints).on("error", ignore);
    stream.removeAllListeners = () => {
      for (const name of ["data", "error", "end"]) {
        for (const listener of stream.listeners(name)) {
          if (listener !== ignore) stream.off(name, listener as () => void);
        }
      }
      return stream;
    };
    return stream;
  };
  inside.shutdown = () => {
    isShutDown = true;
    return shutdown();
  };
  return client;
};

const ignore = (): void => {};
