#!lua
-- Gives waiting messages another time, and perhaps another end, body or properties.
-- KEYS  prefix
-- ARGV  1 wake channel · 2 shard · 3 changes: (16 B id, u8 what, due u48, expireAt u48, u32 body length, u16 properties
--       length)… · 4 bodies and properties, one behind the other · 5 tombstone slice ms
--       what: 1 expireAt is given · 2 never expires · 4 body · 8 properties · 16 wake
-- reply 15 bytes per change: outcome (as in cancel), state, due u48, attempt u16, 1 when it can be claimed, lane
--@use shard, record, due-index, groups, tombstones, wakes
local changes, bytes = ARGV[3], ARGV[4]
local stateScheduled, stateClaimed, stateDead = 0, 1, 3
local noLane = "\0\0\0\0"
local results = {}
local position = 1

-- The parts behind the head: the envelope stays, properties and body may be others.
local function changedRest(head, record, what, body, properties)
  local at = head.restAt
  local envelope = ""
  if band(head.flags, 32) ~= 0 then
    local length = unpackBytes(">I2", record, at)
    envelope = sub(record, at, at + 1 + length)
    at = at + 2 + length
  end
  local old = ""
  if band(head.flags, 64) ~= 0 then
    local length = unpackBytes(">I2", record, at)
    old = sub(record, at, at + 1 + length)
    at = at + 2 + length
  end
  if band(what, 8) ~= 0 then
    head.flags = band(head.flags, 32)
    old = ""
    if #properties > 0 then
      head.flags = head.flags + 64
      old = pack(">I2", #properties) .. properties
    end
  end
  return envelope .. old .. (band(what, 4) ~= 0 and body or sub(record, at))
end

for offset = 1, #changes, 35 do
  local id = sub(changes, offset, offset + 15)
  local what, due, expireAt, bodyLength, propertiesLength = unpackBytes(">BI6I6I4I2", changes, offset + 16)
  local body = sub(bytes, position, position + bodyLength - 1)
  position = position + bodyLength
  local properties = sub(bytes, position, position + propertiesLength - 1)
  position = position + propertiesLength
  local record = call("HGET", records, id)
  local claim = record and call("HGET", claims, id)
  if not record then
    local tombstone = findTombstones({ id })[id]
    if tombstone then
      local state, attempt, endedDue = readTombstone(tombstone[1])
      results[#results + 1] = pack(">BBI6I2B", 1, state, endedDue, attempt, 0) .. noLane
    else
      results[#results + 1] = pack(">BBI6I2B", 2, stateScheduled, 0, 0, 0) .. noLane
    end
  else
    local head = parse(record)
    if claim then
      results[#results + 1] = pack(">BBI6I2B", 1, stateClaimed, head.due, unpackBytes(">I2", claim), 0) .. noLane
    elseif head.reason then
      results[#results + 1] = pack(">BBI6I2B", 1, stateDead, head.due, head.attempt, 0) .. noLane
    else
      if head.level ~= levelNone then
        withdraw(head.level, head.due, id, head.lane .. id)
      end
      writeIndex() -- what comes next may look for room where this one lay
      local rest = what % 16 >= 4 and changedRest(head, record, what, body, properties) or sub(record, head.restAt)
      if what % 4 ~= 0 then
        head.expireAt = what % 4 == 1 and expireAt or nil
      end
      local next
      if head.group then
        next = leaveGroup(head, id)
      end
      head.due, head.deliverAt = due, due
      local isClaimable = 1
      if head.group then
        head.level = levelNone
        call("HSET", records, id, build(head, rest))
        local admitted = enterGroup(head, id)
        isClaimable = admitted and admitted.id == id and 1 or 0
        -- Who takes the place of another is always told of: nobody else knows its due.
        if admitted and (admitted.id ~= id or what >= 16) then
          wake(admitted.id, admitted.lane, admitted.due)
        end
        if next and (not admitted or admitted.id ~= next.id) then
          wake(next.id, next.lane, next.due)
        end
      else
        local bucket = roomFor(levelTop, due, id)
        insert(bucket, due, head.lane .. id)
        head.level = bucket.level
        call("HSET", records, id, build(head, rest))
        if what >= 16 then
          wake(id, head.lane, due)
        end
      end
      writeIndex()
      results[#results + 1] = pack(">BBI6I2B", 0, stateScheduled, due, head.attempt, isClaimable) .. head.lane
    end
  end
end
publishWakes()
return concat(results)
