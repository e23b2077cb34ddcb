#!lua
-- Accepts messages of one shard, in order. Without allow-oom: a full Redis refuses it before its first line.
-- KEYS  prefix
-- ARGV  1 wake channel · 2 shard · 3 lanes: (4 B lane, u16 length, names)… · 4 items: (u8 options, u32 record length,
--       4 B lane, 16 B id)… · 5 records, one behind the other · 6 died at, u48 per item where any is revived · 7 tombstone slice ms
--       options: 1 keep · 2 replace · 3 revive what died at exactly that instant · 4 wake · 8 in a group
-- reply { codes, facts }: two bytes per item, outcome * 16 + state and the index level; due u48 and attempt u16 for each
--       item whose outcome is not 0. Or { lane } where the lane's number already stands for another name.
--       outcome: 0 scheduled · 1 kept · 2 replaced · 3 too late · 4 nothing to revive. state: as in redis-delay-store.ts
--@use shard, lanes, record, due-index, groups, counts, tombstones, wakes
local items, bytes = ARGV[4], ARGV[5]
local count = #items / 25
local stateScheduled, stateClaimed, stateDead = 0, 1, 3

-- Everything is read and refused before anything is written.
local unnamed, strange = unknownLanes(ARGV[3])
if not unnamed then
  return { strange }
end

local ids, keyed, seen, hasTwice = {}, {}, {}, false
for i = 1, count do
  local at = (i - 1) * 25 + 1
  local id = sub(items, at + 9, at + 24)
  ids[i] = id
  if seen[id] then
    hasTwice = true
  end
  seen[id] = true
  if byte(items, at) % 4 ~= 0 then
    keyed[#keyed + 1] = id
  end
end
local present = count > 0 and call("HMGET", records, unpack(ids)) or {}
local tombstones = findTombstones(keyed)

nameLanes(unnamed)

local writes, codes, facts = {}, {}, {}
local hints = {}

local function store(i, id, record, options)
  if options >= 8 then
    return
  end
  local flags, levelAndVersion, due = unpackBytes(">BBI6", record)
  local hint = (levelAndVersion - levelAndVersion % 16) / 16
  local bucket = roomFor(hints[hint] or hint, due, id)
  local level = bucket.level
  hints[hint] = level -- messages of one call tend to lie at one level
  local at = (i - 1) * 25 + 1
  insert(bucket, due, sub(items, at + 5, at + 24))
  if level ~= hint then
    record = sub(record, 1, 1) .. char(level * 16 + levelAndVersion % 16) .. sub(record, 3)
  end
  local n = #writes
  writes[n + 1] = id
  writes[n + 2] = record
  if options % 8 >= 4 then
    wake(id, sub(items, at + 5, at + 8), due)
  end
  return level
end

-- Messages of a group are written at once, because they meet each other.
local function storeInGroup(id, record, options, seq)
  local head = parse(record)
  head.level = levelNone
  head.seq = seq or call("INCR", prefix .. "s")
  call("HSET", records, id, build(head, sub(record, head.restAt)))
  local admitted = enterGroup(head, id)
  -- Who takes the place of another is always told of: nobody else knows its due.
  if admitted and (admitted.id ~= id or options % 8 >= 4) then
    wake(admitted.id, admitted.lane, admitted.due)
  end
end

local function flush()
  callWith("HSET", records, writes)
  writes = {}
  writeIndex()
end

local position = 1
local handled = {}
for i = 1, count do
  local at = (i - 1) * 25 + 1
  local options, length = unpackBytes(">BI4", items, at)
  local record = sub(bytes, position, position + length - 1)
  position = position + length
  local id = ids[i]
  local lane = sub(items, at + 5, at + 8)
  local old = present[i]
  local tombstone = tombstones[id]
  if hasTwice then
    if handled[id] then
      flush()
      old = call("HGET", records, id)
      tombstone = nil -- the first of the two has used it, or it still is there for both
      if not old then
        tombstone = findTombstones({ id })[id]
      end
    end
    handled[id] = true
  end

  local outcome, state, level, due, attempt = 0, stateScheduled, levelNone, nil, 0
  local seq, next
  if old then
    local head = parse(old)
    if head.group then
      -- An earlier message of this call may have moved this one.
      writeIndex()
      old = call("HGET", records, id)
      head = parse(old)
    end
    due, attempt = head.due, head.attempt
    local claim = call("HGET", claims, id)
    if head.reason then
      state = stateDead
    elseif claim then
      state = stateClaimed
      attempt = unpackBytes(">I2", claim)
    end
    outcome = 1
    local mayReplace = options % 4 == 2
    if options % 4 == 3 then
      mayReplace = state == stateDead and head.endedAt == unpackBytes(">I6", ARGV[6], (i - 1) * 6 + 1)
    end
    if mayReplace then
      if state == stateClaimed then
        outcome = 3
      else
        outcome = 2
        if state == stateDead then
          call("ZREM", prefix .. "x", id)
        else
          countLane(head.lane, -1)
          if head.level ~= levelNone then
            withdraw(head.level, head.due, id, head.lane .. id)
          end
          if head.group then
            seq = head.seq
            next = leaveGroup(head, id)
          end
        end
      end
    end
  elseif tombstone then
    local endedAt
    state, attempt, due, endedAt = readTombstone(tombstone[1])
    outcome = 1
    if options % 4 == 2 then
      outcome = 3
      if state ~= stateDelivered then
        outcome = 2
        call("HDEL", tombstone[2], id)
      end
    end
  elseif options % 4 == 3 then
    outcome, due = 4, 0
  end

  if outcome == 0 or outcome == 2 then
    state, attempt = stateScheduled, 0
    due = unpackBytes(">I6", record, 3)
    countLane(lane, 1)
    if options >= 8 then
      storeInGroup(id, record, options, seq)
    else
      if outcome == 2 then
        -- The old place must be left before the new one is taken: they may be the same.
        writeIndex()
      end
      level = store(i, id, record, options)
    end
    if next then
      wake(next.id, next.lane, next.due)
    end
  end
  codes[i] = char(outcome * 16 + state, level)
  if outcome ~= 0 then
    facts[#facts + 1] = pack(">I6I2", due, attempt)
  end
end
flush()
writeCounts()
publishWakes()
return { concat(codes), concat(facts) }
