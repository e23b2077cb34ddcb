import { existsSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * libfaketime under one process: its wall clock can be set while it runs. The monotonic clock is left alone, as an
 * operator or NTP would leave it; a Node whose monotonic clock steps back ends itself, and proves nothing.
 */
export class FakeClock {
  readonly #file: string;
  readonly environment: Readonly<Record<string, string>>;

  constructor(folder: string, name: string) {
    this.#file = join(folder, `clock-${name}`);
    this.set(0);
    this.environment = {
      LD_PRELOAD: findLibrary(),
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
      // The file is read at every call. One second of caching would make the instant of the jump unknown.
      FAKETIME_NO_CACHE: "1",
    };
  }

  /** Seconds ahead of the machine's clock; negative is behind. */
  set(offsetSeconds: number): void {
    writeFileSync(`${this.#file}.new`, `${offsetSeconds < 0 ? "-" : "+"}${Math.abs(offsetSeconds)}\n`);
    renameSync(`${this.#file}.new`, this.#file);
  }
}

const findLibrary = (): string => {
  const folders = ["/usr/lib/faketime", "/usr/local/lib/faketime"];
  for (const folder of existsSync("/usr/lib") ? readdirSync("/usr/lib") : []) {
    if (folder.endsWith("-linux-gnu")) folders.push(join("/usr/lib", folder, "faketime"));
  }
  const found = folders.map((folder) => join(folder, "libfaketime.so.1")).find((file) => existsSync(file));
  if (found === undefined)
    throw new Error("libfaketime.so.1 was not found. On Debian or Ubuntu: apt-get install faketime");
  return found;
};
