/**
 * Which member should own which shard: a pure function of the member list, so that every process computes the same
 * answer without talking. Rendezvous hashing ranks the members for each shard; a cap of ceil(shards / members) keeps
 * the split even. When one member of n leaves, little more than its own shards move.
 */
export const assign = (members: readonly string[], shardCount: number): string[] => {
  if (members.length === 0) return [];
  const cap = Math.ceil(shardCount / members.length);
  const load = new Map(members.map((member) => [member, 0]));
  return Array.from({ length: shardCount }, (_, shard) => {
    let best: string | undefined;
    let bestRank = -1;
    for (const member of members) {
      if (load.get(member)! >= cap) continue;
      const rank = rankOf(member, shard);
      if (rank > bestRank || (rank === bestRank && best !== undefined && member < best)) {
        best = member;
        bestRank = rank;
      }
    }
    // The cap times the members covers all shards, so there is always one with room.
    load.set(best!, load.get(best!)! + 1);
    return best!;
  });
};

const rankOf = (member: string, shard: number): number => {
  let hash = 0x9e3779b9 ^ shard;
  for (let i = 0; i < member.length; i++) {
    hash = Math.imul(hash ^ member.charCodeAt(i), 0x01000193);
    hash ^= hash >>> 15;
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x45d9f3b);
  hash = Math.imul(hash ^ (hash >>> 16), 0x45d9f3b);
  return (hash ^ (hash >>> 16)) >>> 0;
};
