#!lua
-- Puts messages among the dead that never waited. An id that is known stays as it is: the call was repeated.
-- KEYS  prefix
-- ARGV  1 now · 2 lanes, as in schedule · 3 items: (u32 record length, 16 B id)… · 4 records · 5 tombstone slice ms
-- reply 0, or { lane } where the lane's number already stands for another name
--@use shard, tombstones
local items, bytes = ARGV[3], ARGV[4]
local count = #items / 20
local unnamed = {}
do
  local lanes, at = ARGV[2], 1
  while at <= #lanes do
    local lane = sub(lanes, at, at + 3)
    local length = unpackBytes(">I2", lanes, at + 4)
    local names = sub(lanes, at + 6, at + 5 + length)
    local known = call("HGET", prefix .. "w", lane)
    if not known then
      unnamed[#unnamed + 1] = lane
      unnamed[#unnamed + 1] = names
    elseif known ~= names then
      return { lane }
    end
    at = at + 6 + length
  end
end
local ids = {}
for i = 1, count do
  ids[i] = sub(items, (i - 1) * 20 + 5, i * 20)
end
local tombstones = findTombstones(ids)
callWith("HSET", prefix .. "w", unnamed)
local position = 1
for i = 1, count do
  local length = unpackBytes(">I4", items, (i - 1) * 20 + 1)
  if not tombstones[ids[i]] and call("HSETNX", records, ids[i], sub(bytes, position, position + length - 1)) == 1 then
    call("ZADD", prefix .. "x", ARGV[1], ids[i])
  end
  position = position + length
end
return 0
