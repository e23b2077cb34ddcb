#!lua flags=allow-oom
-- Extends a lease that is still ours.
-- KEYS  prefix · ARGV  1 epoch · 2 owner · 3 lease ms
-- reply 1 when it is
--@use shard
if call("GET", prefix .. "l") ~= ARGV[2] or call("GET", prefix .. "e") ~= ARGV[1] then
  return 0
end
return call("PEXPIRE", prefix .. "l", ARGV[3])
