export declare function mavenJars(which: {
  name: string;
  /** `group:name:version`. */
  artifacts: readonly string[];
  say: (line: string) => void;
}): Promise<string>;
