#!lua flags=no-writes
-- What is known of each id.
-- KEYS  prefix
-- ARGV  1 ids, 16 B each · 2 bytes of records after which no more are read · 3 tombstone slice ms
-- reply { facts, records }: facts 8 bytes per id read: kind (0 unknown · 1 whole · 2 ended), state, attempt u16 and
--       u32 record length, or for an ended one 20 bytes: kind, state, attempt u16, zero u32, due u48, endedAt u48.
--       Fewer facts than ids: ask again for the rest.
--@use shard, record, tombstones
local ids, bytesMax = ARGV[1], tonumber(ARGV[2])
local facts, whole, missing, bytes = {}, {}, {}, 0

eachRecord(ids, function(i, id, record)
  if bytes > bytesMax then
    return true
  end
  if not record then
    missing[#missing + 1] = id
    facts[i] = id
    return
  end
  bytes = bytes + #record
  whole[#whole + 1] = record
  local claim = call("HGET", claims, id)
  local state = claim and 1 or band(byte(record), 1) == 1 and 3 or 0
  facts[i] = pack(">BBI2I4", 1, state, claim and unpackBytes(">I2", claim) or 0, #record)
end)

local tombstones = findTombstones(missing)
for i = 1, #facts do
  local id = facts[i]
  if #id == 16 then
    local tombstone = tombstones[id]
    if tombstone then
      local state, attempt, due, endedAt = readTombstone(tombstone[1])
      facts[i] = pack(">BBI2I4I6I6", 2, state, attempt, 0, due, endedAt)
    else
      facts[i] = pack(">BBI2I4", 0, 0, 0, 0)
    end
  end
end
return { concat(facts), concat(whole) }
