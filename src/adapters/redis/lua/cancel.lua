#!lua flags=allow-oom
-- Ends messages that still wait.
-- KEYS  prefix
-- ARGV  1 wake channel · 2 shard · 3 now · 4 ids, 16 B each · 5 tombstone slice ms
-- reply 10 bytes per id: outcome (0 done · 1 too late · 2 not found), state, due u48, attempt u16
--@use shard, record, due-index, groups, counts, tombstones, wakes
local now, ids = tonumber(ARGV[3]), ARGV[4]
local stateScheduled, stateClaimed, stateDead = 0, 1, 3
local results, ended, missing, removed = {}, {}, {}, {}

eachRecord(ids, function(i, id, record)
  if ended[id] then
    results[i] = ended[id]
    return
  end
  if not record then
    missing[#missing + 1] = id
    results[i] = id
    return
  end
  local head = parse(record)
  local claim = call("HGET", claims, id)
  if claim then
    results[i] = pack(">BBI6I2", 1, stateClaimed, head.due, unpackBytes(">I2", claim))
    return
  end
  if head.reason then
    results[i] = pack(">BBI6I2", 1, stateDead, head.due, head.attempt)
    return
  end
  if head.group then
    -- An earlier message of this call may have made this one the head.
    writeIndex()
    head = parse(call("HGET", records, id))
  end
  if head.level ~= levelNone then
    withdraw(head.level, head.due, id, head.lane .. id)
  end
  removed[#removed + 1] = id
  countLane(head.lane, -1)
  leaveTombstone(id, stateCanceled, head.attempt, head.due, now)
  if head.group then
    local next = leaveGroup(head, id)
    if next then
      wake(next.id, next.lane, next.due)
    end
  end
  results[i] = pack(">BBI6I2", 0, stateCanceled, head.due, head.attempt)
  ended[id] = results[i]
end)

local tombstones = findTombstones(missing)
for i = 1, #results do
  local id = results[i]
  if #id == 16 then
    local tombstone = tombstones[id]
    if tombstone then
      local state, attempt, due = readTombstone(tombstone[1])
      results[i] = pack(">BBI6I2", state == stateCanceled and 0 or 1, state, due, attempt)
    else
      results[i] = pack(">BBI6I2", 2, stateScheduled, 0, 0)
    end
  end
end

callWith("HDEL", records, removed)
writeIndex()
writeTombstones()
writeCounts()
publishWakes()
return concat(results)
