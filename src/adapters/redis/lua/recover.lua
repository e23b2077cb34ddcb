#!lua flags=allow-oom
-- Returns messages that an earlier owner had claimed to waiting, their attempts kept counted.
-- KEYS  prefix · ARGV  1 epoch · 2 limit
-- reply how many
--@use shard, fence, record, due-index, counts
local limit, epoch = tonumber(ARGV[2]), tonumber(ARGV[1])
local found, cursor = {}, "0"
repeat
  local page = call("HSCAN", claims, cursor, "COUNT", 100)
  cursor = page[1]
  local pairsOf = page[2]
  for i = 1, #pairsOf, 2 do
    local attempt, _, claimedIn = unpackBytes(">I2I6I4", pairsOf[i + 1])
    if claimedIn ~= epoch and #found < limit then
      found[#found + 1] = { pairsOf[i], attempt }
    end
  end
until cursor == "0" or #found >= limit

local recovered, seen = 0, {}
for i = 1, #found do
  local id, attempt = found[i][1], found[i][2]
  if not seen[id] then -- HSCAN may show one twice
    seen[id] = true
    recovered = recovered + 1
    local record = call("HGET", records, id)
    local head = parse(record)
    local bucket = roomFor(levelTop, head.due, id)
    insert(bucket, head.due, head.lane .. id)
    head.level, head.attempt = bucket.level, attempt
    call("HSET", records, id, build(head, sub(record, head.restAt)))
    call("HDEL", claims, id)
    countLane(head.lane, 1)
  end
end
writeIndex()
writeCounts()
return recovered
