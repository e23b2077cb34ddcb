#!lua flags=no-writes
-- Claimable messages with from <= due <= until, bucket by bucket.
-- KEYS  prefix
-- ARGV  1 from · 2 until · 3 limit · 4 start of the bucket, 5 its name, 6 score and 7 member where the last page ended;
--       name empty for the first page
-- reply { buckets, scores, members, more }: buckets (start u48, count u16)…; scores as decimals, a blank behind each;
--       members lane and id, 20 bytes each; more: { start, name, score, member } for the next page, or none
--@use shard, rank
local from, untilDue, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local directory = prefix .. "d"
local widths = { [0] = 16, 16, 16, 16, 128, 1024, 8192, 65536, 524288, 4194304, 33554432, 268435456, 2147483648 }
local bucketsMax = 500 -- looked at per call, about 0.3 ms; the page may then be short
local members, scores, buckets = {}, {}, {}

local rank
if ARGV[5] == "" then
  rank = call("ZCOUNT", directory, "-inf", string.format("%.0f", from - widths[12]))
else
  rank = rankBehind(directory, tonumber(ARGV[4]), ARGV[5])
  if call("ZSCORE", directory, ARGV[5]) then
    rank = rank - 1
  end
end

local looked = 0
while true do
  local page = call("ZRANGE", directory, rank, rank + 49, "WITHSCORES")
  for i = 1, #page, 2 do
    local name, start = page[i], tonumber(page[i + 1])
    if start > untilDue then
      return { concat(buckets), concat(scores, " "), concat(members) }
    end
    looked = looked + 1
    if start + widths[byte(name)] > from then
      local key = prefix .. "b" .. name
      local room = limit - #members
      local found
      if name == ARGV[5] then
        local first = rankBehind(key, tonumber(ARGV[6]), ARGV[7])
        found = call("ZRANGE", key, first, first + room - 1, "WITHSCORES")
      else
        local low = string.format("%.0f", math.max(0, from - start))
        local high = string.format("%.0f", untilDue - start)
        found = call("ZRANGEBYSCORE", key, low, high, "WITHSCORES", "LIMIT", 0, room)
      end
      local before, n = #members, #members
      for j = 1, #found, 2 do
        if tonumber(found[j + 1]) + start > untilDue then
          break
        end
        n = n + 1
        members[n] = found[j]
        scores[n] = found[j + 1]
      end
      if n > before then
        buckets[#buckets + 1] = pack(">I6I2", start, n - before)
      end
      if n >= limit then
        return { concat(buckets), concat(scores, " "), concat(members), page[i + 1], name, scores[n], members[n] }
      end
    end
    if looked >= bucketsMax then
      -- Continues behind everything in this bucket.
      local past = string.format("%.0f", widths[byte(name)])
      return { concat(buckets), concat(scores, " "), concat(members), page[i + 1], name, past, "" }
    end
  end
  if #page < 100 then
    return { concat(buckets), concat(scores, " "), concat(members) }
  end
  rank = rank + 50
end
