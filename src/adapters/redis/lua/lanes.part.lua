-- What a lane's number stands for: `w` holds tenant and topic by number. The number is a hash of both, so two names may
-- meet in one; the second is refused.

-- `lanes` is packed as (4 B lane, u16 length, names)…. Answers the field and value pairs that are not known yet, to be
-- written once nothing can be refused any more; or false and the lane whose number stands for another name.
local function unknownLanes(lanes)
  local unknown, at = {}, 1
  while at <= #lanes do
    local lane = sub(lanes, at, at + 3)
    local length = unpackBytes(">I2", lanes, at + 4)
    local names = sub(lanes, at + 6, at + 5 + length)
    local known = call("HGET", prefix .. "w", lane)
    if not known then
      unknown[#unknown + 1] = lane
      unknown[#unknown + 1] = names
    elseif known ~= names then
      return false, lane
    end
    at = at + 6 + length
  end
  return unknown
end

local function nameLanes(unknown)
  callWith("HSET", prefix .. "w", unknown)
end
