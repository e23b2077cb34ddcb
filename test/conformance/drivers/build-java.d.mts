export declare function javaDriver(how?: {
  /** Hears about slow one-time steps. */
  say?: ((line: string) => void) | undefined;
}): Promise<{ classes: string; jars: string }>;
