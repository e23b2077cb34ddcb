#!lua flags=allow-oom
-- Says that a member goes.
-- KEYS  members · ARGV  1 member · 2 channel for news of members
-- reply 1 when it was there
local removed = redis.call("ZREM", KEYS[1], ARGV[1])
if removed > 0 then
  redis.call("PUBLISH", ARGV[2], "")
end
return removed
