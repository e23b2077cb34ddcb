import type { HalfMessage } from "./half-broker.port.ts";

/**
 * A half message as its barrier row keeps it for the backstop: four bytes with the length of a JSON text, the text (all
 * but the body), and the body unless it is rebuilt when it is needed.
 */
export type KeptHalf = { readonly message: Omit<HalfMessage, "body">; readonly body: Buffer | undefined };

const lengthBytes = 4;

export const packHalf = ({ body, ...message }: HalfMessage, keepBody: boolean): Buffer => {
  const text = Buffer.from(JSON.stringify({ ...message, properties: [...message.properties], kept: keepBody }));
  const length = Buffer.allocUnsafe(lengthBytes);
  length.writeUInt32BE(text.length);
  return Buffer.concat(keepBody ? [length, text, body] : [length, text]);
};

export const unpackHalf = (bytes: Buffer): KeptHalf => {
  const end = lengthBytes + bytes.readUInt32BE(0);
  const { kept, properties, ...message } = JSON.parse(bytes.toString("utf8", lengthBytes, end));
  return {
    message: { ...message, properties: new Map(properties) },
    body: kept ? bytes.subarray(end) : undefined,
  };
};
