#!lua flags=no-writes
-- A page of the dead, oldest first.
-- KEYS  prefix
-- ARGV  1 limit · 2 bytes of records after which the page ends · 3 endedAt and 4 id of the last page's last; or the
--       endedAt to begin with, 0 for the first, and an empty id
-- reply { ids, record lengths u32, records, 1 when more follow }
--@use shard, rank
local limit, bytesMax = tonumber(ARGV[1]), tonumber(ARGV[2])
local rank = ARGV[3] == "0" and 0 or rankBehind(prefix .. "x", tonumber(ARGV[3]), ARGV[4])
local ids = call("ZRANGE", prefix .. "x", rank, rank + limit - 1)
local lengths, whole, bytes = {}, {}, 0
for i = 1, #ids do
  local record = call("HGET", records, ids[i])
  whole[i] = record
  lengths[i] = pack(">I4", #record)
  bytes = bytes + #record
  if bytes > bytesMax then
    break
  end
end
local more = rank + #whole < call("ZCARD", prefix .. "x") and 1 or 0
return { concat(ids, "", 1, #whole), concat(lengths), concat(whole), more }
