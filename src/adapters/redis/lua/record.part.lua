-- The head of a record, as src/delay/record.ts lays it out. Everything behind the head (envelope, properties, body) is
-- carried along unread.
local band = bit.band
local levelNone = 15 -- not in the due index: behind the head of its group, or dead

local function parse(record)
  local flags, levelAndVersion, due = unpackBytes(">BBI6", record)
  local version = levelAndVersion % 16
  local head = {
    flags = flags,
    version = version,
    level = (levelAndVersion - version) / 16,
    due = due,
    deliverAt = due,
    attempt = 0,
    lane = sub(record, 9, 12),
    accepted = sub(record, 13, 18),
  }
  local at = 19
  if flags % 32 ~= 0 then
    if band(flags, 2) ~= 0 then
      head.attempt = unpackBytes(">I2", record, at)
      at = at + 2
    end
    if band(flags, 4) ~= 0 then
      head.deliverAt = unpackBytes(">I6", record, at)
      at = at + 6
    end
    if band(flags, 8) ~= 0 then
      head.expireAt = unpackBytes(">I6", record, at)
      at = at + 6
    end
    if band(flags, 16) ~= 0 then
      head.group = sub(record, at, at + 15)
      head.seq = unpackBytes(">I6", record, at + 16)
      at = at + 22
    end
    if band(flags, 1) ~= 0 then
      local endedAt, length = unpackBytes(">I6I2", record, at)
      head.endedAt = endedAt
      head.reason = sub(record, at + 8, at + 7 + length)
      at = at + 8 + length
    end
  end
  head.restAt = at
  return head
end

local function build(head, rest)
  local flags = band(head.flags, 96)
  local parts, n = { "", char(head.level * 16 + head.version), pack(">I6", head.due), head.lane, head.accepted }, 5
  if head.attempt > 0 then
    flags = flags + 2
    n = n + 1
    parts[n] = pack(">I2", head.attempt)
  end
  if head.deliverAt ~= head.due then
    flags = flags + 4
    n = n + 1
    parts[n] = pack(">I6", head.deliverAt)
  end
  if head.expireAt then
    flags = flags + 8
    n = n + 1
    parts[n] = pack(">I6", head.expireAt)
  end
  if head.group then
    flags = flags + 16
    parts[n + 1] = head.group
    parts[n + 2] = pack(">I6", head.seq)
    n = n + 2
  end
  if head.reason then
    flags = flags + 1
    parts[n + 1] = pack(">I6I2", head.endedAt, #head.reason)
    parts[n + 2] = head.reason
    n = n + 2
  end
  parts[1] = char(flags)
  parts[n + 1] = rest
  return concat(parts)
end

-- Reads the records of packed ids a few at a time, because 200 bodies can be 800 MB. `visit(index, id, record)` gets
-- false for a record that is not there, and ends the reading by answering true.
local function eachRecord(ids, visit)
  local count = #ids / 16
  local size, index = 8, 0
  while index < count do
    local chunk, bytes = {}, 0
    for i = 1, math.min(size, count - index) do
      chunk[i] = sub(ids, (index + i) * 16 - 15, (index + i) * 16)
    end
    local found = call("HMGET", records, unpack(chunk))
    for i = 1, #chunk do
      local record = found[i]
      if record then
        bytes = bytes + #record
      end
      if visit(index + i, chunk[i], record) then
        return
      end
    end
    index = index + #chunk
    local average = bytes / #chunk
    size = average < 4096 and 256 or average < 65536 and 16 or 1
  end
end
