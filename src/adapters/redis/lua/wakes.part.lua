-- News for the owners of shards: "this is due soon". One message per call, 26 bytes per entry. `ARGV[1]` is the channel
-- and ARGV[2] the shard's number, in every script that uses this.
local wakes = {}

local function wake(id, lane, due)
  wakes[#wakes + 1] = id .. lane .. pack(">I6", due)
end

local function publishWakes()
  if #wakes > 0 then
    call("PUBLISH", ARGV[1], pack(">I2", tonumber(ARGV[2])) .. concat(wakes))
  end
end
