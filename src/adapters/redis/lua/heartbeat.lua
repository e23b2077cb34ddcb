#!lua flags=allow-oom
-- Says that a member lives; those whose time ran out are dropped. By Redis's own clock.
-- KEYS  members · ARGV  1 member · 2 ttl ms · 3 channel for news of members
-- reply all living members
local clock = redis.call("TIME")
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local function decimal(number)
  return string.format("%.0f", number)
end
local dropped = redis.call("ZREMRANGEBYSCORE", KEYS[1], "-inf", decimal(now))
local added = redis.call("ZADD", KEYS[1], decimal(now + tonumber(ARGV[2])), ARGV[1])
if added + dropped > 0 then
  redis.call("PUBLISH", ARGV[3], "")
end
return redis.call("ZRANGE", KEYS[1], 0, -1)
