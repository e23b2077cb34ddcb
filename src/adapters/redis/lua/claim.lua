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
local bytes, taken = 0, 0
local count = #ids / 16

-- What is out already: handed out again if it is this owner's, whose first answer was lost.
local out = {}
if call("EXISTS", claims) == 1 then
  for i = 1, count do
    out[i] = sub(ids, i * 16 - 15, i * 16)
  end
  out = count > 0 and call("HMGET", claims, unpack(out)) or out
end

local function take(record, attempt, bodyBytes)
  taken = taken + 1
  whole[taken] = record
  lengths[taken] = #record
  attempts[taken] = attempt
  bytes = bytes + bodyBytes
end

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
  local attempt, group, restAt, expireAt, head = 0, nil, 19, nil, nil
  if flags % 32 ~= 0 then
    head = parse(record)
    attempt, group, restAt, expireAt = head.attempt, head.group, head.restAt, head.expireAt
  end
  if out[i] then
    local claimedAttempt, claimedIn = unpackBytes(">I2I4", out[i])
    if claimedIn == epoch then
      verdicts[i] = "\1"
      done[id] = true
      take(record, claimedAttempt, bodyBytes(record, restAt, flags))
    else
      verdicts[i] = "\0"
    end
    return
  end
  if level == levelNone then
    verdicts[i] = "\0"
    return
  end
  local lane = sub(record, 9, 12)
  if expireAt and expireAt <= now then
    verdicts[i] = "\4"
    done[id] = true
    withdraw(level, due, id, lane .. id)
    countLane(lane, -1)
    leaveTombstone(id, stateExpired, attempt, due, now)
    expiredIds[#expiredIds + 1] = id
    local next = group and leaveGroup(head, id)
    if next then
      promoted[next.id] = true
      nexts[#nexts + 1] = next
    end
    return
  end
  if due > now then
    verdicts[i] = "\2"
    dues[#dues + 1] = pack(">I6", due)
    return
  end
  verdicts[i] = "\1"
  done[id] = true
  withdraw(level, due, id, lane .. id)
  countLane(lane, -1)
  local n = #claimWrites
  claimWrites[n + 1] = id
  claimWrites[n + 2] = pack(">I2I4", attempt + 1, epoch) .. sub(record, 3, 8) .. (group or "")
  take(record, attempt + 1, bodyBytes(record, restAt, flags))
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
  taken > 0 and pack(">" .. string.rep("I2", taken), unpack(attempts)) or "",
  concat(released),
}
