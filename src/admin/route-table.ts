/** Which methods a path takes, to say so when someone comes with another one. */
export class RouteTable {
  readonly #methodsByPattern = new Map<string, Set<string>>();

  add(method: string | readonly string[], pattern: string): void {
    const methods = this.#methodsByPattern.get(pattern) ?? new Set();
    for (const one of [method].flat()) methods.add(one);
    this.#methodsByPattern.set(pattern, methods);
  }

  methodsOf(url: string): string[] {
    const path = url.split("?", 1)[0]!;
    const parts = path.split("/");
    for (const [pattern, methods] of this.#methodsByPattern) {
      if (pattern.endsWith("*")) continue;
      const wanted = pattern.split("/");
      const fits =
        wanted.length === parts.length &&
        wanted.every((part, i) => (part.startsWith(":") ? parts[i] !== "" : part === parts[i]));
      if (fits) return [...methods].sort();
    }
    return [];
  }
}
