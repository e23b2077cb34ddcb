#!lua
-- Puts messages among the dead that never waited. An id that is known stays as it is: the call was repeated.
-- KEYS  prefix
-- ARGV  1 now · 2 lanes, as in schedule · 3 items: (u32 record length, 16 B id)… · 4 records · 5 tombstone slice ms
-- reply 0, or { lane } where the lane's number already stands for another name
--@use shard, lanes, tombstones
local items, bytes = ARGV[3], ARGV[4]
local count = #items / 20
local unnamed, strange = unknownLanes(ARGV[2])
if not unnamed then
  return { strange }
end
local ids = {}
for i = 1, count do
  ids[i] = sub(items, (i - 1) * 20 + 5, i * 20)
end
local tombstones = findTombstones(ids)
nameLanes(unnamed)
local position = 1
for i = 1, count do
  local length = unpackBytes(">I4", items, (i - 1) * 20 + 1)
  if not tombstones[ids[i]] and call("HSETNX", records, ids[i], sub(bytes, position, position + length - 1)) == 1 then
    call("ZADD", prefix .. "x", ARGV[1], ids[i])
  end
  position = position + length
end
return 0
