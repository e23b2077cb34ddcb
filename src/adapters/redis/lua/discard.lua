#!lua flags=allow-oom
-- Removes dead messages, each if it died at exactly the instant given.
-- KEYS  prefix
-- ARGV  1 now · 2 deaths: (16 B id, u48 died at)… · 3 tombstone slice ms
-- reply a byte per death: 1 where it was removed
--@use shard, record, tombstones
local now, deaths = tonumber(ARGV[1]), ARGV[2]
local removed, discarded = {}, {}
for i = 1, #deaths / 22 do
  local at = (i - 1) * 22 + 1
  local id = sub(deaths, at, at + 15)
  local record = call("HGET", records, id)
  local head = record and parse(record)
  -- One at a time: the same death may stand there twice.
  if head and head.reason and head.endedAt == unpackBytes(">I6", deaths, at + 16) then
    call("HDEL", records, id)
    removed[#removed + 1] = id
    leaveTombstone(id, stateCanceled, head.attempt, head.due, now)
    discarded[i] = char(1)
  else
    discarded[i] = char(0)
  end
end
callWith("ZREM", prefix .. "x", removed)
writeTombstones()
return concat(discarded)
