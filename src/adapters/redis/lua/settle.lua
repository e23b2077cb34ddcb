#!lua flags=allow-oom
-- Records what became of claimed messages; what is not claimed is left as it is.
-- KEYS  prefix
-- ARGV  1 epoch · 2 now · 3 outcomes: (u8 kind, 16 B id, u48)… · 4 reasons, one behind the other · 5 tombstone slice ms
--       kind: 0 delivered · 1 retry, with the due · 2 give back · 3 bury, with the length of its reason
-- reply released heads of groups: id, lane, due u48
--@use shard, fence, record, due-index, groups, counts, tombstones
local now, outcomes, reasons = tonumber(ARGV[2]), ARGV[3], ARGV[4]
local count = #outcomes / 23
local released, settled, removed = {}, {}, {}
local position = 1
local ids = {}
for i = 1, count do
  ids[i] = sub(outcomes, i * 23 - 21, i * 23 - 6)
end
local out = count > 0 and call("HMGET", claims, unpack(ids)) or {}
local done = {}
local settledCount, removedCount = 0, 0

-- Messages due together, sent in the same attempt, leave the same tombstone.
local tombstoneOf, endedNow = {}, pack(">I6", now)
local function deliveredTombstone(claim)
  local attemptAndDue = sub(claim, 1, 8)
  local tombstone = tombstoneOf[attemptAndDue]
  if not tombstone then
    local attempt = unpackBytes(">I2", claim)
    tombstone = pack(">I2", stateDelivered * 8192 + math.min(attempt, 8191)) .. sub(claim, 3, 8) .. endedNow
    tombstoneOf[attemptAndDue] = tombstone
  end
  return tombstone
end

local function leave(group, head, id)
  if not group then
    return
  end
  local next = leaveGroup(head, id)
  if next then
    released[#released + 1] = next.id .. next.lane .. pack(">I6", next.due)
  end
end

for i = 1, count do
  local kind = byte(outcomes, i * 23 - 22)
  local id, claim = ids[i], out[i]
  local reason
  if kind == 3 then
    local length = unpackBytes(">I6", outcomes, i * 23 - 5)
    reason = sub(reasons, position, position + length - 1)
    position = position + length
  end
  if claim and not done[id] then
    done[id] = true
    settledCount = settledCount + 1
    settled[settledCount] = id
    local group = #claim > 12 and sub(claim, 13) or nil
    if kind == 0 then
      removedCount = removedCount + 1
      removed[removedCount] = id
      tombs[removedCount * 2 - 1] = id
      tombs[removedCount * 2] = deliveredTombstone(claim)
      if group then
        leave(group, { group = group }, id)
      end
    else
      local record = call("HGET", records, id)
      local head = parse(record)
      local attempt = unpackBytes(">I2", claim)
      if kind == 3 then
        leave(group, head, id)
        head.level, head.attempt, head.group = levelNone, attempt, nil
        head.endedAt, head.reason = now, reason
        call("ZADD", prefix .. "x", now, id)
      else
        if kind == 1 then
          head.attempt, head.due = attempt, unpackBytes(">I6", outcomes, i * 23 - 5)
        end
        local bucket = roomFor(head.level, head.due, id)
        insert(bucket, head.due, head.lane .. id)
        countLane(head.lane, 1)
        if kind == 2 and bucket.level == head.level then
          head = nil -- as it was before the claim
        else
          head.level = bucket.level
        end
      end
      if head then
        call("HSET", records, id, build(head, sub(record, head.restAt)))
      end
    end
  end
end
callWith("HDEL", records, removed)
callWith("HDEL", claims, settled)
writeIndex()
writeTombstones()
writeCounts()
return concat(released)
