#!lua flags=allow-oom
-- Takes a shard that is free, or renews one that is ours. A new owner gets the next epoch.
-- KEYS  prefix · ARGV  1 owner · 2 lease ms
-- reply { 1, epoch } or { 0, owner, ms left }
--@use shard
local owner = call("GET", prefix .. "l")
if owner and owner ~= ARGV[1] then
  return { 0, owner, call("PTTL", prefix .. "l") }
end
if owner then
  call("PEXPIRE", prefix .. "l", ARGV[2])
  return { 1, tonumber(call("GET", prefix .. "e")) }
end
call("SET", prefix .. "l", ARGV[1], "PX", ARGV[2])
return { 1, call("INCR", prefix .. "e") }
