#!lua flags=no-writes
-- How many claimable messages have from <= due <= until, counted bucket by bucket, at most `bucketsMax` per call.
-- KEYS  prefix
-- ARGV  1 from · 2 until · 3 where in the directory to go on, or -1
-- reply { count, where to go on or -1 }
--@use shard
local from, untilDue, rank = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local directory = prefix .. "d"
local widths = { [0] = 16, 16, 16, 16, 128, 1024, 8192, 65536, 524288, 4194304, 33554432, 268435456, 2147483648 }
local bucketsMax = 2000 -- about a millisecond
if rank < 0 then
  rank = call("ZCOUNT", directory, "-inf", string.format("%.0f", from - widths[12]))
end
local count = 0
local page = call("ZRANGE", directory, rank, rank + bucketsMax - 1, "WITHSCORES")
for i = 1, #page, 2 do
  local name, start = page[i], tonumber(page[i + 1])
  if start > untilDue then
    return { count, -1 }
  end
  local last = start + widths[byte(name)] - 1
  if last >= from then
    local key = prefix .. "b" .. name
    if start >= from and last <= untilDue then
      count = count + call("ZCARD", key)
    else
      local low = string.format("%.0f", math.max(0, from - start))
      count = count + call("ZCOUNT", key, low, string.format("%.0f", untilDue - start))
    end
  end
end
if #page < 2 * bucketsMax then
  return { count, -1 }
end
return { count, rank + bucketsMax }
