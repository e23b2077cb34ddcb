#!lua flags=allow-oom
-- Removes a document where its revision is the expected one.
-- KEYS  prefix of a kind (see document-write) · ARGV  1 name · 2 expected revision
-- reply 1 when it did
local current = redis.call("HGET", KEYS[1] .. "h", ARGV[1])
if not current or string.match(current, "^%d+") ~= ARGV[2] then
  return 0
end
redis.call("HDEL", KEYS[1] .. "h", ARGV[1])
redis.call("ZREM", KEYS[1] .. "n", ARGV[1])
return 1
