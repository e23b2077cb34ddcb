export declare function goDriver(how?: {
  /** Hears about slow one-time steps. */
  say?: ((line: string) => void) | undefined;
}): Promise<{ command: string; args: string[] }>;
