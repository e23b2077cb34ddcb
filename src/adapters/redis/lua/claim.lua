#!lua flags=allow-oom
-- Takes due messages out for sending and counts the attempt. The record itself is not written: a body can be 4 MB.
-- KEYS  prefix
-- ARGV  1 epoch · 2 now · 3 bytes of bodies after which the rest is deferred · 4 ids, 16 B each · 5 tombstone slice ms
-- reply { verdicts, dues, lengths, records, attempts, released }: one byte per id (0 gone · 1 claimed · 2 later ·
--       3 deferred · 4 expired); due u48 of each that is later; record length u32 of each claimed one; records; attempt
--       u16 of each claimed one; released as id, lane, due u48
--@use shard, fence, record, due-index, groups, counts, tombstones
local epoch, now, bytesMax, ids = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local verdicts, dues, lengths, whole, attempts = {}, {}, {}, {}, {}
local claimWrites, expiredIds, nexts, promoted, done = {}, {}, {}, {}, {}
local bytes, taken, writes = 0, 0, 0
local count = #ids / 16

-- What is out already: handed out again if it is this owner's, whose first answer was lost.
local out = {}
if call("EXISTS", claims) == 1 then
  for i = 1, count do
    out[i] = sub(ids, i * 16 - 15, i * 16)
  end
  out = count > 0 and call("HMGET", claims, unpack(out)) or out
end

local claimedOnce, inEpoch = pack(">I2", 1), pack(">I4", epoch)

local function bodyBytes(record, restAt, flags)
  local at = restAt
  if band(flags, 32) ~= 0 then
    at = at + 2 + unpackBytes(">I2", record, at)
  end
  if band(flags, 64) ~= 0 then
    at = at + 2 + unpackBytes(">I2", record, at)
  end
  return #record - at + 1
end

-- The answer to an id that is not simply due: it has an attempt, an end, a group, or is out already.
local function look(i, id, record, flags, level, due)
  local head = parse(record)
  if out[i] then
    local attempt, _, claimedIn = unpackBytes(">I2I6I4", out[i])
    if claimedIn ~= epoch then
      return "\0"
    end
    return "\1", attempt, head
  end
  if level == levelNone then
    return "\0"
  end
  if head.expireAt and head.expireAt <= now then
    done[id] = true
    withdraw(level, due, id, head.lane .. id)
    countLane(head.lane, -1)
    leaveTombstone(id, stateExpired, head.attempt, due, now)
    expiredIds[#expiredIds + 1] = id
    local next = head.group and leaveGroup(head, id)
    if next then
      promoted[next.id] = true
      nexts[#nexts + 1] = next
    end
    return "\4"
  end
  if due > now then
    dues[#dues + 1] = pack(">I6", due)
    return "\2"
  end
  return "\1", head.attempt + 1, head
end

eachRecord(ids, function(i, id, record)
  if bytes > bytesMax then
    return true
  end
  if not record or done[id] then
    verdicts[i] = "\0"
    return
  end
  if promoted[id] then
    writeIndex()
    record = call("HGET", records, id)
  end
  local flags, levelAndVersion, due = unpackBytes(">BBI6", record)
  local level = (levelAndVersion - levelAndVersion % 16) / 16
  local value
  if flags % 32 == 0 and not out[i] and due <= now and level ~= levelNone then
    value = claimedOnce .. sub(record, 3, 8) .. inEpoch
    taken = taken + 1
    attempts[taken] = claimedOnce
    bytes = bytes + (flags == 0 and #record - 18 or bodyBytes(record, 19, flags))
  else
    local verdict, attempt, head = look(i, id, record, flags, level, due)
    if verdict ~= "\1" then
      verdicts[i] = verdict
      return
    end
    taken = taken + 1
    attempts[taken] = pack(">I2", attempt)
    bytes = bytes + bodyBytes(record, head.restAt, flags)
    if not out[i] then
      value = attempts[taken] .. sub(record, 3, 8) .. inEpoch .. (head.group or "")
    end
  end
  verdicts[i] = "\1"
  done[id] = true
  whole[taken] = record
  lengths[taken] = #record
  if value then
    local lane = sub(record, 9, 12)
    withdraw(level, due, id, lane .. id)
    laneChanges[lane] = (laneChanges[lane] or 0) - 1
    claimWrites[writes + 1] = id
    claimWrites[writes + 2] = value
    writes = writes + 2
  end
end)

for i = #verdicts + 1, count do
  verdicts[i] = "\3"
end
local released = {}
for i = 1, #nexts do
  local next = nexts[i]
  if not done[next.id] then
    released[#released + 1] = next.id .. next.lane .. pack(">I6", next.due)
  end
end
writeIndex()
callWith("HSET", claims, claimWrites)
callWith("HDEL", records, expiredIds)
writeTombstones()
writeCounts()
return {
  concat(verdicts),
  concat(dues),
  taken > 0 and pack(">" .. string.rep("I4", taken), unpack(lengths)) or "",
  concat(whole),
  concat(attempts),
  concat(released),
}
