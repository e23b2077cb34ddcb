/**
 * The receipt handle: 20 characters that name a delivery. They carry version, queue, offset and a nonce, 48 bits of
 * chance drawn for this one delivery and kept in the group's progress (and its journal, so that a handle outlives a
 * restart). A handle is good while the nonce is the present one: an older delivery, another group's or topic's, and
 * anything made up meet a different nonce. So the text needs no signature, which would cost more than all the rest.
 */
const version = 1;
const wellFormed = /^[A-Za-z0-9_-]{20}$/;

export type ReceiptHandle = { readonly queueId: number; readonly offset: number; readonly nonce: number };

export const writeHandle = ({ queueId, offset, nonce }: ReceiptHandle): string => {
  const bytes = Buffer.allocUnsafe(15);
  bytes[0] = version;
  bytes.writeUInt16BE(queueId, 1);
  bytes.writeUIntBE(offset, 3, 6);
  bytes.writeUIntBE(nonce, 9, 6);
  return bytes.toString("base64url");
};

/** Undefined when this is no handle of ours. */
export const readHandle = (text: string): ReceiptHandle | undefined => {
  // Node's decoder takes any text for base64 and drops what it does not like.
  if (!wellFormed.test(text)) return undefined;
  const bytes = Buffer.from(text, "base64url");
  if (bytes[0] !== version) return undefined;
  return { queueId: bytes.readUInt16BE(1), offset: bytes.readUIntBE(3, 6), nonce: bytes.readUIntBE(9, 6) };
};
