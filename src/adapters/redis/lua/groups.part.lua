-- Message groups: of each group only the head is in the due index. The head's id is in `h`, by the hash of the group;
-- those behind it are in a sorted set of their own, by (deliverAt, number of acceptance). A head keeps its place until it
-- ends; only while it waits and was never attempted does an earlier message displace it.
--
-- These functions write at once, not at the end: messages of one group in one call see each other.
local heads = prefix .. "h"

local function followersOf(group)
  return prefix .. "g" .. group
end

local function followerOf(head, id)
  return pack(">I6", head.seq) .. id
end

-- Puts a stored, scheduled message into the due index. Answers what a listener or an owner needs to know of it.
local function admit(id, record)
  local head = parse(record)
  local bucket = roomFor(levelTop, head.due, id)
  insert(bucket, head.due, head.lane .. id)
  head.level = bucket.level
  call("HSET", records, id, build(head, sub(record, head.restAt)))
  return { id = id, lane = head.lane, due = head.due }
end

local function promote(group)
  local first = sub(call("ZPOPMIN", followersOf(group))[1], 7)
  call("HSET", heads, group, first)
  return admit(first, call("HGET", records, first))
end

-- `id` is stored with level none. Answers the message that became claimable by its coming, itself as a rule.
local function enterGroup(head, id)
  local firstId = call("HGET", heads, head.group)
  if not firstId then
    call("HSET", heads, head.group, id)
    return admit(id, call("HGET", records, id))
  end
  call("ZADD", followersOf(head.group), head.deliverAt, followerOf(head, id))
  if call("HEXISTS", claims, firstId) == 1 then
    return nil
  end
  local firstRecord = call("HGET", records, firstId)
  local first = parse(firstRecord)
  if
    first.attempt > 0
    or first.deliverAt < head.deliverAt
    or (first.deliverAt == head.deliverAt and first.seq < head.seq)
  then
    return nil
  end
  call("ZADD", followersOf(head.group), first.deliverAt, followerOf(first, firstId))
  writeIndex()
  withdraw(first.level, first.due, firstId, first.lane .. firstId)
  first.level = levelNone
  call("HSET", records, firstId, build(first, sub(firstRecord, first.restAt)))
  return promote(head.group)
end

-- The caller takes the message out of the due index itself. Answers the message that became claimable by its going.
local function leaveGroup(head, id)
  if call("HGET", heads, head.group) ~= id then
    call("ZREM", followersOf(head.group), followerOf(head, id))
    return nil
  end
  if call("EXISTS", followersOf(head.group)) == 1 then
    return promote(head.group)
  end
  call("HDEL", heads, head.group)
  return nil
end
