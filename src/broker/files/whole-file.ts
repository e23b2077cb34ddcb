import { reach } from "../../runtime/failpoint.ts";
import type { Files } from "./files.port.ts";

/** Small files that are read and replaced as a whole: after a crash there is the old text or the new one. */
export const replaceFile = async (files: Files, path: string, bytes: Buffer): Promise<void> => {
  const draft = `${path}.new`;
  const file = files.open(draft, "create")!;
  try {
    await file.truncate(0);
    await file.write(bytes, 0);
    await file.sync();
  } finally {
    file.close();
  }
  reach("draft-written");
  await files.rename(draft, path);
  await files.syncFolder(".");
};

export const readFile = (files: Files, path: string): Buffer | undefined => {
  const file = files.open(path, "leave");
  if (file === undefined) return undefined;
  const bytes = Buffer.alloc(file.sizeBytes);
  file.read(bytes, 0);
  file.close();
  return bytes;
};
