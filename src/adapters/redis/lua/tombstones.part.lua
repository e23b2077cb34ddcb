-- What is left of a message that was delivered, canceled or expired: 14 bytes, for the dedupe window. They lie in one
-- hash per time slice (a quarter of the window, on Redis's own clock), and Redis itself drops the whole slice.
-- A script that uses them gets the slice width in ms as its last argument.
local sliceWidth = tonumber(ARGV[#ARGV])
local clock = call("TIME")
local slice = math.floor((tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)) / sliceWidth)
local stateDelivered, stateCanceled, stateExpired = 2, 4, 5
local tombs = {}

local function sliceKey(number)
  return prefix .. "t" .. string.format("%.0f:%.0f", sliceWidth, number)
end

local function leaveTombstone(id, state, attempt, due, endedAt)
  local n = #tombs
  tombs[n + 1] = id
  tombs[n + 2] = pack(">I2I6I6", state * 8192 + math.min(attempt, 8191), due, endedAt)
end

local function writeTombstones()
  if #tombs > 0 then
    local key = sliceKey(slice)
    callWith("HSET", key, tombs)
    call("PEXPIRE", key, sliceWidth * 5, "NX")
    tombs = {}
  end
end

-- Answers a table from each of `ids` that has a tombstone to { tombstone, key of its slice }. One slice more than live
-- is read, in case Redis's clock was set back.
local function findTombstones(ids)
  local found = {}
  if #ids == 0 then
    return found
  end
  for number = slice - 4, slice + 1 do
    local key = sliceKey(number)
    if call("EXISTS", key) == 1 then
      local values = call("HMGET", key, unpack(ids))
      for i = 1, #ids do
        if values[i] then
          found[ids[i]] = { values[i], key }
        end
      end
    end
  end
  return found
end

local function readTombstone(tombstone)
  local stateAndAttempt, due, endedAt = unpackBytes(">I2I6I6", tombstone)
  local attempt = stateAndAttempt % 8192
  return (stateAndAttempt - attempt) / 8192, attempt, due, endedAt
end
