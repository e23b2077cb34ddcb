import { EscapementError } from "../../message/errors.ts";

/**
 * What a failure of Redis means to us. The client's errors carry the whole command, bodies included, so none of them
 * leaves this folder: not as `cause`, not in a text. What is said is made from the first word of Redis's answer.
 */
export const redisFailure = (error: unknown): EscapementError => {
  if (error instanceof EscapementError) return error;
  // Of a Cluster that cannot be reached, the last node's answer says why.
  if (error instanceof Error && "lastNodeError" in error && error.lastNodeError instanceof Error) {
    return redisFailure(error.lastNodeError);
  }
  const text = error instanceof Error ? error.message : "";
  const word = /^[A-Z]{3,}(?= |$)/.exec(text)?.[0];
  if (word === undefined) return unavailable(reasonOf(error, text));
  if (word === "FENCED") {
    return new EscapementError("fenced", `another process owns the shard by now (epoch ${text.slice(7, 30)})`);
  }
  if (word === "OOM") {
    return new EscapementError("store_full", "Redis is at its maxmemory; nothing was stored. Give it more memory.");
  }
  const refusal = refusals[word];
  if (refusal !== undefined) return new EscapementError("store_refusing", `Redis answers ${word}: ${refusal}`);
  // A mistake of ours in a script or a command. Redis repeats arguments in some of these, so only the place is kept.
  const place = /user_script:\d+: (?:bad argument #\d+ to '\w+'|attempt to [a-z ]+)/.exec(text)?.[0];
  return new EscapementError("internal", `Redis answers ${word}${place === undefined ? "" : ` at ${place}`}`);
};

const refusals: Record<string, string> = {
  READONLY: "it is a replica. Connect to the primary.",
  MISCONF: "it cannot write to its disk. Free space or repair the disk; it takes writes again by itself.",
  LOADING: "it is reading its data after a start. It answers when it is done.",
  CLUSTERDOWN: "the cluster does not serve all slots. Bring the missing nodes back.",
  NOREPLICAS: "too few replicas are connected (min-replicas-to-write).",
  MASTERDOWN: "its primary is down.",
  BUSY: "a script keeps it busy.",
  NOAUTH: "it asks for a password. Put it into the address: redis://user:password@host.",
  WRONGPASS: "user or password are wrong.",
  NOPERM: "the user may not run a command that is needed. See the operations page for the ACL.",
  MOVED: "it sent us elsewhere too often; the cluster is being rearranged.",
  ASK: "it sent us elsewhere too often; the cluster is being rearranged.",
  TRYAGAIN: "a slot is being moved.",
};

const unavailable = (reason: string): EscapementError =>
  new EscapementError("store_unavailable", `Redis does not answer: ${reason}`);

const reasonOf = (error: unknown, text: string): string => {
  const code = error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
  if (code !== undefined && /^[A-Z_]{3,30}$/.test(code)) return code;
  if (text === "Command timed out") return "no reply within the time limit";
  if (text.startsWith("Stream isn't writeable") || text.startsWith("Cluster isn't ready")) return "not connected";
  if (text.startsWith("Too many Cluster redirections")) return "the cluster sends us in circles";
  if (error instanceof Error && error.name === "ClusterAllFailedError") return "no node of the cluster is reachable";
  return "the connection was lost";
};
