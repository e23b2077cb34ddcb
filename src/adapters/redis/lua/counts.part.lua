-- How many wait, by lane (tenant and topic). Kept by difference, one write per lane and call.
local laneChanges = {}

local function countLane(lane, change)
  laneChanges[lane] = (laneChanges[lane] or 0) + change
end

local function writeCounts()
  for lane, change in pairs(laneChanges) do
    if change ~= 0 then
      call("HINCRBY", prefix .. "n", lane, change)
    end
  end
end
