import { EscapementError } from "../message/errors.ts";

/**
 * Reads a query string strictly: known names only, each at most once, valid percent-encoding. The usual lenient
 * parsers turn `?key=%FF` into the text "%FF" and so let two spellings mean one key.
 */
export const readQuery = <Name extends string>(
  url: string,
  names: readonly Name[],
): { readonly [N in Name]?: string } => {
  const found: { [N in Name]?: string } = {};
  const mark = url.indexOf("?");
  if (mark < 0) return found;
  const hash = url.indexOf("#", mark);
  const query = url.slice(mark + 1, hash < 0 ? undefined : hash);
  for (const pair of query.split("&")) {
    if (pair === "") continue;
    const equals = pair.indexOf("=");
    const name = decoded(equals < 0 ? pair : pair.slice(0, equals), "query");
    if (!names.includes(name as Name)) {
      const shown = JSON.stringify(name.slice(0, 64)).slice(1, -1);
      const known = names.length === 0 ? "this route takes none" : `this route takes ${names.join(", ")}`;
      throw new EscapementError("unknown_field", `There is no query parameter ${shown}: ${known}.`, { field: shown });
    }
    if (found[name as Name] !== undefined) {
      throw new EscapementError("invalid_field", `The query parameter ${name} stands there twice.`, { field: name });
    }
    found[name as Name] = equals < 0 ? "" : decoded(pair.slice(equals + 1), name);
  }
  return found;
};

const decoded = (text: string, field: string): string => {
  const spaced = text.includes("+") ? text.replaceAll("+", " ") : text;
  if (!spaced.includes("%")) return spaced;
  try {
    return decodeURIComponent(spaced);
  } catch {
    throw new EscapementError("invalid_utf8", `${field} is not valid percent-encoded UTF-8.`, { field });
  }
};

export const readFlag = (value: string | undefined, field: string): boolean => {
  if (value === undefined || value === "false") return false;
  if (value === "true") return true;
  throw new EscapementError("invalid_field", `${field} must be true or false.`, { field });
};

export const readCount = (value: string | undefined, field: string, fallback: number, max: number): number => {
  if (value === undefined) return fallback;
  const count = value.length > 0 && value.length <= 9 && !/[^0-9]/.test(value) ? Number(value) : 0;
  if (count >= 1 && count <= max) return count;
  throw new EscapementError("invalid_field", `${field} must be a whole number from 1 to ${max}.`, { field });
};
