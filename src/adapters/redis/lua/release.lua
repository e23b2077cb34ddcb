#!lua flags=allow-oom
-- Gives a shard up, if it is ours. The epoch stays: the next owner gets a higher one.
-- KEYS  prefix · ARGV  1 epoch · 2 owner
-- reply 1 when it was
--@use shard
if call("GET", prefix .. "l") ~= ARGV[2] or call("GET", prefix .. "e") ~= ARGV[1] then
  return 0
end
return call("DEL", prefix .. "l")
