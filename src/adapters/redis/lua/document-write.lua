#!lua
-- Writes a document where its revision is the expected one; 0 means that there is none.
-- KEYS  prefix of a kind: <prefix>h is a hash, name → revision, newline, body; <prefix>n has the names in their order
-- ARGV  1 name · 2 expected revision · 3 body
-- reply the new revision; where it is not the expected one, what stands there, or an empty text
local name, expected = ARGV[1], ARGV[2]
local current = redis.call("HGET", KEYS[1] .. "h", name)
local revision = current and string.match(current, "^%d+") or "0"
if revision ~= expected then
  return current or ""
end
local following = tonumber(expected) + 1
redis.call("HSET", KEYS[1] .. "h", name, string.format("%.0f\n", following) .. ARGV[3])
if not current then
  redis.call("ZADD", KEYS[1] .. "n", 0, name)
end
return following
