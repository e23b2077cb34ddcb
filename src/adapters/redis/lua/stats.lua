#!lua flags=no-writes
-- Counts of one shard. What is due when is counted bucket by bucket, at most `bucketsMax` per call.
-- KEYS  prefix
-- ARGV  1 now · 2 how many buckets of the directory to skip
-- reply { owner or "", epoch, claimed, dead, lanes: (lane, count, …), dueNow, per minute: 60 numbers, per hour: 24,
--       buckets to skip next or -1 }
--@use shard
local now, rank = tonumber(ARGV[1]), tonumber(ARGV[2])
local directory = prefix .. "d"
local widths = { [0] = 16, 16, 16, 16, 128, 1024, 8192, 65536, 524288, 4194304, 33554432, 268435456, 2147483648 }
local bucketsMax = 1000
local minute, hour = 60000, 3600000
local horizon = now + 24 * hour
local dueNow, minutes, hours = 0, {}, {}
for i = 1, 60 do
  minutes[i] = 0
end
for i = 1, 24 do
  hours[i] = 0
end

local function add(inMs, count)
  if inMs <= 0 then
    dueNow = dueNow + count
    return
  end
  local m, h = math.ceil(inMs / minute), math.ceil(inMs / hour)
  if m <= 60 then
    minutes[m] = minutes[m] + count
  end
  if h <= 24 then
    hours[h] = hours[h] + count
  end
end

local nextRank = -1
local page = call("ZRANGE", directory, rank, rank + bucketsMax - 1, "WITHSCORES")
if #page == 2 * bucketsMax then
  nextRank = rank + bucketsMax
end
for i = 1, #page, 2 do
  local key, start, width = prefix .. "b" .. page[i], tonumber(page[i + 1]), widths[byte(page[i])]
  if start > horizon then
    nextRank = -1
    break
  end
  local first, last = start - now, start + width - 1 - now
  if last <= 0 or (first > 0 and math.ceil(first / minute) == math.ceil(last / minute)) then
    add(last, call("ZCARD", key))
  else
    local found = call("ZRANGE", key, 0, -1, "WITHSCORES")
    for j = 2, #found, 2 do
      add(first + tonumber(found[j]), 1)
    end
  end
end
return {
  call("GET", prefix .. "l") or "",
  tonumber(call("GET", prefix .. "e") or 0),
  call("HLEN", claims),
  call("ZCARD", prefix .. "x"),
  rank == 0 and call("HGETALL", prefix .. "n") or {},
  dueNow,
  minutes,
  hours,
  nextRank,
}
