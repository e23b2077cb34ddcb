import { generateKeyPairSync, randomBytes, sign } from "node:crypto";

/**
 * A certificate of our own for TLS without preparation: Node makes keys and signatures but no certificates, so here is
 * the little DER that one needs (RFC 5280): an EC key, the name localhost, signed by itself.
 *
 * The Java and Go clients of RocketMQ take any certificate; for others use one that they trust.
 */
export const selfSignedCertificate = (): { readonly key: string; readonly cert: string } => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const name = sequence(set(sequence(objectId(commonName), tagged(utf8String, Buffer.from("localhost")))));
  const algorithm = sequence(objectId(ecdsaWithSha256));
  const content = sequence(
    explicit(0, integer(Buffer.from([2]))), // version 3
    integer(Buffer.concat([Buffer.from([1]), randomBytes(15)])), // serial number
    algorithm,
    name,
    sequence(tagged(generalizedTime, Buffer.from(validFrom)), tagged(generalizedTime, Buffer.from(validUntil))),
    name,
    publicKey.export({ type: "spki", format: "der" }),
    explicit(3, sequence(extension(basicConstraints, sequence(yes)), extension(alternativeNames, reachableAs()))),
  );
  const signature = sign("sha256", content, privateKey);
  const certificate = sequence(content, algorithm, tagged(bitString, Buffer.from([0]), signature));
  return { key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(), cert: pem(certificate) };
};

const validFrom = "20200101000000Z";
/** RFC 5280's way of saying that it does not end. */
const validUntil = "99991231235959Z";

const integerTag = 0x02;
const bitString = 0x03;
const octetString = 0x04;
const objectIdTag = 0x06;
const utf8String = 0x0c;
const generalizedTime = 0x18;
const sequenceTag = 0x30;
const setTag = 0x31;
const dnsName = 0x82;
const ipAddress = 0x87;
const yes = Buffer.from([0x01, 0x01, 0xff]);

/** Object ids in their encoded form. */
const commonName = "550403";
const basicConstraints = "551d13";
const alternativeNames = "551d11";
const ecdsaWithSha256 = "2a8648ce3d040302";

const tagged = (tag: number, ...parts: readonly Buffer[]): Buffer => {
  const content = Buffer.concat(parts);
  const { length } = content;
  const head = length < 0x80 ? [tag, length] : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), content]);
};
const sequence = (...parts: readonly Buffer[]): Buffer => tagged(sequenceTag, ...parts);
const set = (...parts: readonly Buffer[]): Buffer => tagged(setTag, ...parts);
const integer = (bytes: Buffer): Buffer => tagged(integerTag, bytes);
const objectId = (hex: string): Buffer => tagged(objectIdTag, Buffer.from(hex, "hex"));
const explicit = (number: number, content: Buffer): Buffer => tagged(0xa0 + number, content);
const extension = (id: string, content: Buffer): Buffer => sequence(objectId(id), tagged(octetString, content));

const reachableAs = (): Buffer =>
  sequence(
    tagged(dnsName, Buffer.from("localhost")),
    tagged(ipAddress, Buffer.from([127, 0, 0, 1])),
    tagged(ipAddress, Buffer.from([...new Array<number>(15).fill(0), 1])),
  );

const pem = (der: Buffer): string =>
  `-----BEGIN CERTIFICATE-----\n${der
    .toString("base64")
    .match(/.{1,64}/g)!
    .join("\n")}\n-----END CERTIFICATE-----\n`;
