import { isUtf8 } from "node:buffer";
import { EscapementError } from "../message/errors.ts";

/**
 * From bytes to a JSON value: valid UTF-8 or refused (Node's own decoding would quietly put U+FFFD where a byte is
 * wrong, and then two different texts would be the same one), valid JSON or refused, and no names that could reach an
 * object's prototype. A byte order mark is skipped, numbers that do not fit become Infinity and are refused later.
 * Where a name occurs twice the last one holds, as everywhere in JavaScript.
 */

/** Parses, and throws when the text is not JSON or holds a poisonous name. Fastify's own parser, given by the app. */
export type SafeParse = (text: string) => unknown;

export const parseJson = (bytes: Buffer, safeParse: SafeParse): unknown => {
  if (!isUtf8(bytes)) throw new EscapementError("invalid_utf8", "The request is not valid UTF-8.");
  const text = bytes.toString("utf8");
  try {
    return safeParse(text);
  } catch {
    // The parser's own message would quote the text, which may hold a body. Only now is it worth knowing which it was.
    throw isJson(text)
      ? new EscapementError(
          "invalid_request",
          'The request holds a "__proto__" or "constructor.prototype", which are refused.',
        )
      : new EscapementError(
          "invalid_json",
          text.trim() === "" ? "The request has no body." : "The request is not valid JSON.",
        );
  }
};

const isJson = (text: string): boolean => {
  try {
    JSON.parse(text.charCodeAt(0) === 0xfeff ? text.slice(1) : text);
    return true;
  } catch {
    return false;
  }
};
